/* SPDX-License-Identifier: MIT */
/*
 * Finding the libvirt driver; see module.h.
 */
#include "driver/module.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Beside the object that this code is in, as `make` and pip put it; NULL: it is not there. */
static char *find_beside(void)
{
    Dl_info info;
    if (!dladdr(DRIVER_MODULE_FILE, &info) || !info.dli_fname)
        return NULL;
    const char *slash = strrchr(info.dli_fname, '/');
    char *path = NULL;
    if (!slash || asprintf(&path, "%.*s/%s", (int)(slash - info.dli_fname), info.dli_fname,
                           DRIVER_MODULE_FILE) < 0)
        return NULL;
    if (access(path, R_OK) == 0)
        return path;
    free(path);
    return NULL;
}

/* The driver that is linked into the program with the core, where one is (docs/embedding.md). */
extern const struct driver_module blockjob_driver_module __attribute__((weak));

/* Never unloaded (it is linked so): threads run in it, and
 * opening it again is cheap. */
static void *open_module(void)
{
    char *beside = find_beside();
    void *handle = dlopen(beside ? beside : DRIVER_MODULE_FILE, RTLD_NOW);
    free(beside);
    return handle;
}

/* Then the driver may well be there, but can't be opened now; dlopen() leaves no errno. */
static bool lacks_descriptors(void)
{
    int fd = open("/", O_PATH | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd < 0 && (errno == EMFILE || errno == ENFILE);
}

static int find_installed(const char *wanted, const struct driver_module **ret,
                          struct text **ret_text)
{
    void *handle = open_module();
    const struct driver_module *module = handle ? dlsym(handle, DRIVER_MODULE_SYMBOL) : NULL;
    if (!handle && lacks_descriptors()) {
        *ret_text = text_printf("can't load the libvirt driver for %s: %s", wanted, dlerror());
        return BJ_E_SYSTEM;
    }
    if (!module) {
        *ret_text = text_printf("%s needs the libvirt driver of libblockjob, which is built where "
                                "libvirt is: %s",
                                wanted, dlerror());
        return BJ_E_UNSUPPORTED;
    }
    *ret = module;
    return BJ_OK;
}

int driver_module_load(const char *wanted, const struct driver_module **ret, struct text **ret_text)
{
    const struct driver_module *linked = &blockjob_driver_module, *module = linked;
    int r = linked ? BJ_OK : find_installed(wanted, &module, ret_text);
    if (r != BJ_OK)
        return r;
    if (strcmp(module->version, bj_version()) != 0) {
        *ret_text = text_printf("%s needs %s of version %s, but it is of version %s: %s both anew",
                                wanted, linked ? "a linked libvirt driver" : DRIVER_MODULE_FILE,
                                bj_version(), module->version, linked ? "build" : "install");
        return BJ_E_UNSUPPORTED;
    }
    *ret = module;
    return BJ_OK;
}
