/* SPDX-License-Identifier: MIT */
/*
 * Without descriptors the driver can't be loaded, or its loop not begin: that is what the answer
 * says, not that there is no driver or no memory. No libvirtd is needed.
 */
#include "cmocka_all.h"

#include <blockjob/blockjob.h>

#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PATIENCE_MS (60 * 1000)

enum { FDS_MAX = 256, ENOUGH = 40 };

typedef struct hoard {
    int fds[FDS_MAX];
    int count;
} hoard;

static void leave_free(hoard *h, int count)
{
    h->count = 0;
    for (int fd; (fd = dup(STDERR_FILENO)) >= 0;)
        h->fds[h->count++] = fd;
    assert_int_in_range(h->count, count, FDS_MAX);
    for (; count > 0 && h->count > 0; count--)
        close(h->fds[--h->count]);
}

static void give_back(hoard *h)
{
    while (h->count > 0)
        close(h->fds[--h->count]);
}

/* Until it is only libvirtd that is not there. */
static void c43_every_number_of_free_descriptors(void **state)
{
    (void)state;
    const char *uri = "qemu+unix:///session?socket=/nowhere/libvirt-sock#vm1";
    struct rlimit few;
    bj_ctx *ctx;
    bool refused = true;
    hoard h;
    getrlimit(RLIMIT_NOFILE, &few);
    few.rlim_cur = FDS_MAX;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
    for (int count = 0; refused; count++) {
        assert_int_in_range(count, 0, ENOUGH);
        leave_free(&h, count);
        bj_future *failed = bj_monitor_connect(ctx, uri, PATIENCE_MS);
        bj_future_wait(failed, BJ_TIMEOUT_NONE);
        give_back(&h);
        int error = bj_future_error(failed);
        const char *text = bj_future_text(failed);
        bool is_said = strstr(text, "open files") || strstr(text, "file descriptor");
        refused = error == BJ_E_SYSTEM || is_said;
        if (error == BJ_E_SYSTEM ? !is_said : error != BJ_E_CONNECT)
            fail_msg("%d free: %s: %s", count, bj_error_name(error), text);
        assert_null(strstr(text, bj_error_text(BJ_E_NOMEM)));
        bj_future_unref(failed);
    }
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    bj_ctx_unref(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c43_every_number_of_free_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
