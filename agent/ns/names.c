// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The area is in the file behind the blocks of the counters, from the next page on. The file is
 * made longer by its last byte, and is sparse. Where there is no room even for that, the area is
 * memory of the agent's own, and ends with it.
 */
#include "agent/ns/names.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/ns/ns.h"
#include "names/names.h"

static size_t area_size(void)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (NAMES_AREA_SIZE + page - 1) / page * page;
}

static off_t area_offset(const struct ns *ns)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (off_t)((ns->shm_size + page - 1) / page * page);
}

static void *map_file(const struct ns *ns)
{
	const off_t at = area_offset(ns), end = at + (off_t)area_size();
	struct stat st;
	void *map;

	if (fstat(ns->shm_fd, &st) < 0 ||
	    (st.st_size < end && pwrite(ns->shm_fd, "", 1, end - 1) != 1))
		return NULL;
	map = mmap(NULL, area_size(), PROT_READ | PROT_WRITE, MAP_SHARED, ns->shm_fd, at);
	if (map == MAP_FAILED)
		return NULL;
	if (shm_reach(map, sizeof(struct names_area)) == 0)
		return map;
	munmap(map, area_size());
	return NULL;
}

static void *map_own(void)
{
	void *map = mmap(NULL, area_size(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	return map;
}

static int open_area(struct ns *ns, uint32_t limit)
{
	ns->names_area = map_file(ns);
	if (!ns->names_area)
		ns->names_area = map_own();
	if (!ns->names_area)
		return -ENOMEM;
	names_area_open(ns->names_area, area_size());
	ns->names = names_new(ns->names_area, limit);
	if (ns->names)
		return 0;
	munmap(ns->names_area, area_size());
	ns->names_area = NULL;
	return -ENOMEM;
}

int ns_names_open(struct ns *ns, uint32_t limit)
{
	return ns->names ? names_limit(ns->names, limit) : open_area(ns, limit);
}

void ns_names_close(struct ns *ns)
{
	names_free(ns->names);
	ns->names = NULL;
	if (ns->names_area)
		munmap(ns->names_area, area_size());
	ns->names_area = NULL;
}
