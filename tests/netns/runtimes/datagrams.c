// SPDX-License-Identifier: GPL-2.0-or-later
/* datagrams ADDRESS PORT...: one UDP datagram to each port, in that order, whatever comes of it. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || argc < 2 || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1)
		return 1;
	for (int i = 2; i < argc; i++) {
		to.sin_port = htons((uint16_t)strtoul(argv[i], NULL, 10));
		if (sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			perror(argv[i]);
	}
	close(fd);
	return 0;
}
