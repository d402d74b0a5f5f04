/* SPDX-License-Identifier: MIT */
/*
 * Without descriptors the driver can't be loaded, or its loop not begin: that is what the answer
 * says, not that there is no driver or no memory. An ssh asks nobody for a password. No libvirtd
 * is needed.
 */
#include "cmocka_all.h"

#include <blockjob/blockjob.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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

/* Stands for ssh: it notes how it was called. */
static void make_ssh(const char *path, const char *arguments)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\necho \"$@\" >%s\nexit 1\n", arguments);
    fclose(file);
    assert_int_equal(chmod(path, 0700), 0);
}

static void read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(line, size, file));
    fclose(file);
}

/* BatchMode: it fails where it would ask. */
static void c138_ssh_does_not_prompt(void **state)
{
    char directory[] = "/tmp/blockjob-XXXXXX";
    char ssh[64], arguments[64], uri[256], line[1024];
    bj_ctx *ctx;
    (void)state;
    assert_non_null(mkdtemp(directory));
    (void)snprintf(ssh, sizeof ssh, "%s/ssh", directory);
    (void)snprintf(arguments, sizeof arguments, "%s/arguments", directory);
    make_ssh(ssh, arguments);
    assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
    for (int asks = 0; asks < 2; asks++) {
        (void)snprintf(uri, sizeof uri, "qemu+ssh://nowhere.invalid/system?command=%s%s#vm1", ssh,
                       asks ? "&no_tty=0" : "");
        bj_future *failed = bj_monitor_connect(ctx, uri, PATIENCE_MS);
        bj_future_wait(failed, BJ_TIMEOUT_NONE);
        assert_int_equal(bj_future_error(failed), BJ_E_CONNECT);
        bj_future_unref(failed);
        read_line(arguments, line, sizeof line);
        assert_int_equal(strstr(line, "BatchMode=yes") == NULL, asks);
    }
    assert_int_equal(bj_ctx_close(ctx), BJ_OK);
    bj_ctx_unref(ctx);
    unlink(arguments);
    unlink(ssh);
    rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c138_ssh_does_not_prompt),
        cmocka_unit_test(c43_every_number_of_free_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
