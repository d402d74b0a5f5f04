/* SPDX-License-Identifier: MIT */
/*
 * Bad input: an error that names it, through the future; and the world goes on.
 */
#include "counts.h"
#include "libvirt.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void connect_fails(world *w, const char *uri, int error, const char *word)
{
    bj_future *failed = expect(w, bj_monitor_connect(w->ctx, uri, BJ_TIMEOUT_DEFAULT), error);
    names(failed, word);
    assert_null(bj_future_monitor(failed));
}

static void b39_an_unknown_domain(void **state)
{
    world *w = *state;
    connect_fails(w, domain_uri(w, "no-such-vm"), BJ_E_CONNECT, "no-such-vm");
    connect_fails(w, domain_uri(w, "00000000-1111-2222-3333-444444444444"), BJ_E_CONNECT,
                  "00000000-1111-2222-3333-444444444444");
}

static void b39_an_inactive_domain(void **state)
{
    world *w = *state;
    define_inactive_domain("asleep");
    bj_future *failed = expect(
        w, bj_monitor_connect(w->ctx, domain_uri(w, "asleep"), BJ_TIMEOUT_DEFAULT), BJ_E_CONNECT);
    names(failed, "asleep");
    names(failed, "running");
}

static void b47_nobody_listens(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "nobody");
    connect_fails(w, text_of(w, "qemu+unix:///session?socket=%s#vm1", path), BJ_E_CONNECT, path);
}

static void b47_a_dead_libvirtd(void **state)
{
    world *w = *state;
    kill_libvirtd();
    connect_fails(w, w->domain->uri, BJ_E_CONNECT, "libvirt-sock");
    start_libvirtd();
    connect_to(w, w->domain->uri);
}

/* Answers whoever connects with words of another protocol. */
static void speak_nbd(int listener)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* or else it keeps the helper's input open */
    int fd = accept(listener, NULL, NULL);
    (void)!write(fd, "NBDMAGICIHAVEOPT", 16);
    for (;;)
        pause();
}

static void b47_what_listens_is_no_libvirtd(void **state)
{
    world *w = *state;
    const char *path = path_of(w, "nbd.sock");
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    w->server = fork();
    assert_true(w->server >= 0);
    if (w->server == 0)
        speak_nbd(listener);
    close(listener);
    int before = count_fds();

    connect_fails(w, text_of(w, "qemu+unix:///session?socket=%s#vm1", path), BJ_E_CONNECT, path);

    /* libvirt (9.0) itself may lose one fd then, with its own event loop as well. */
    w->fds += 1 + fds_left_by_libvirt(before + 1);
}

static void b47_a_silent_libvirtd(void **state)
{
    world *w = *state;
    signal_libvirtd("STOP");
    bj_future *silent = bj_monitor_connect(w->ctx, w->domain->uri, 100);
    names(expect(w, silent, BJ_E_TIMEOUT), "libvirt");
    signal_libvirtd("CONT");
    connect_to(w, w->domain->uri);
}

/* As a user who may not use libvirt's socket: in a child, for it can't become root again. */
static int connect_as_stranger(const char *uri)
{
    if (getuid() == 0 && (setgid(12345) != 0 || setuid(12345) != 0))
        return 1;
    bj_ctx *ctx;
    if (bj_ctx_new(&ctx) != BJ_OK)
        return 2;
    bj_future *future = bj_monitor_connect(ctx, uri, BJ_TIMEOUT_DEFAULT);
    bj_future_wait(future, BJ_TIMEOUT_NONE);
    if (bj_future_error(future) != BJ_E_CONNECT)
        return 3;
    return strstr(bj_future_text(future), strerror(EACCES)) ? 0 : 4;
}

static void b39_permission_denied(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip(); /* TSan lets no child of threads have threads */
#endif
    world *w = *state;
    const char *socket_path = strstr(host_uri(), "socket=") + strlen("socket=");
    if (getuid() != 0)
        assert_int_equal(chmod(socket_path, 0), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(connect_as_stranger(w->domain->uri));
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (getuid() != 0)
        assert_int_equal(chmod(socket_path, 0700), 0);
    assert_int_equal(status, 0);
}

static void b39_addresses_that_make_no_sense(void **state)
{
    world *w = *state;
    static const char *const bad[] = {
        "qemu:///system", "qemu:///session#", "libvirt:", "#vm1", "libvirt", "qemu:///session#%zz",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        connect_fails(w, bad[i], BJ_E_INVAL, bad[i]);
}

static void b39_a_driver_without_block_jobs(void **state)
{
    world *w = *state;
    bj_future *other =
        hold(w, bj_monitor_connect(w->ctx, "test:///default#test", BJ_TIMEOUT_DEFAULT));
    bj_future_wait(other, BJ_TIMEOUT_NONE);
    /* It has BLOCK_JOB_2 or says that it has not; what it can't do is said at the latest then. */
    if (bj_future_error(other) != BJ_OK) {
        assert_string_not_equal(bj_future_text(other), "");
        return;
    }
    w->monitor = hold_monitor(w, bj_future_monitor(other));
    bj_future *started = hold(w, bj_monitor_stream(w->monitor, "vda", NULL, BJ_TIMEOUT_DEFAULT));
    bj_future_wait(started, BJ_TIMEOUT_NONE);
    assert_int_not_equal(bj_future_error(started), BJ_OK);
    assert_string_not_equal(bj_future_text(started), "");
}

/* --------------------------------------------------------------- on a domain */

static void b39_an_unknown_disk(void **state)
{
    world *w = *state;
    const char *copy = empty_image(w, "copy");
    names(expect(w, bj_monitor_mirror(w->monitor, "vdz", copy, "full", REUSE, BJ_TIMEOUT_DEFAULT),
                 BJ_E_REFUSED),
          "vdz");
    names(expect(w, bj_monitor_attach(w->monitor, "vdz", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB), "vdz");
    names(
        expect(w, bj_monitor_attach(w->monitor, "/no/such/file", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB),
        "/no/such/file");
}

static void b35_a_disk_without_a_job(void **state)
{
    world *w = *state;
    names(expect(w, bj_monitor_attach(w->monitor, "vda", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB), "vda");
}

static void b41_a_disk_that_has_a_job_already(void **state)
{
    world *w = *state;
    bj_job *job = mirror(w, "vda", empty_image(w, "copy"), REUSE_HALTED);

    bj_future *second = bj_monitor_mirror(w->monitor, "vda", empty_image(w, "other"), "full", REUSE,
                                          BJ_TIMEOUT_DEFAULT);
    names(expect(w, second, BJ_E_REFUSED), "vda");

    /* The first did not notice. */
    assert_int_equal(bj_job_outcome(job), BJ_OUTCOME_NONE);
    expect(w, bj_job_set_speed(job, 0, BJ_TIMEOUT_NONE), BJ_OK);
    expect_end(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE), BJ_OK,
               BJ_OUTCOME_PIVOTED);
}

static void b41_a_start_that_is_refused_leaves_no_job(void **state)
{
    world *w = *state;
    bj_monitor *m = w->monitor;
    bj_future *refused = bj_monitor_mirror(m, "vda", "/no/such/folder/copy", "full",
                                           JSON({"format": "qcow2"}), BJ_TIMEOUT_DEFAULT);
    names(expect(w, refused, BJ_E_REFUSED), strerror(ENOENT)); /* libvirt says no path */
    expect(w, bj_monitor_commit(m, "vda", JSON({"active": true}), BJ_TIMEOUT_DEFAULT),
                                BJ_E_REFUSED);

    expect(w, bj_monitor_attach(m, "vda", BJ_TIMEOUT_DEFAULT), BJ_E_NO_JOB);
    assert_int_equal(bj_future_info_count(expect(w, bj_monitor_list(m, BJ_TIMEOUT_DEFAULT), BJ_OK)),
                     0);
}

static void b39_options_that_there_are_not(void **state)
{
    world *w = *state;
    const char *copy = empty_image(w, "copy");
    static const char *const bad[] = {
        JSON({"no-such-option": 1}), JSON({"format": 7}), JSON({"bandwidth": "fast"}),
                                                               JSON({"bandwidth": -1}), "[]", "{",
                                                          };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect(w, bj_monitor_mirror(w->monitor, "vda", copy, "full", bad[i], BJ_TIMEOUT_DEFAULT),
               BJ_E_INVAL);
    names(expect(w, bj_monitor_mirror(w->monitor, "vda", copy, "full", bad[0], BJ_TIMEOUT_DEFAULT),
                 BJ_E_INVAL),
          "no-such-option");
    expect(w, bj_monitor_mirror(w->monitor, "vda", copy, "sideways", REUSE, BJ_TIMEOUT_DEFAULT),
           BJ_E_INVAL);
    bj_future *xml =
        bj_monitor_mirror(w->monitor, "vda", "<disk", "full", NULL, BJ_TIMEOUT_DEFAULT);
    bj_future_wait(hold(w, xml), BJ_TIMEOUT_NONE);
    assert_true(bj_future_error(xml) == BJ_E_REFUSED || bj_future_error(xml) == BJ_E_INVAL);
    expect(w, bj_monitor_start(w->monitor, "virDomainDestroy", "{}", BJ_TIMEOUT_DEFAULT),
           BJ_E_UNSUPPORTED);
    expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_DEFAULT), BJ_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DOMAIN_TEST(b41_a_disk_that_has_a_job_already),
        DOMAIN_TEST(b35_a_disk_without_a_job),
        DOMAIN_TEST(b39_an_unknown_disk),
        DOMAIN_TEST(b39_options_that_there_are_not),
        DOMAIN_TEST(b41_a_start_that_is_refused_leaves_no_job),
        UNCONNECTED_DOMAIN_TEST(b39_a_driver_without_block_jobs),
        UNCONNECTED_DOMAIN_TEST(b39_addresses_that_make_no_sense),
        UNCONNECTED_DOMAIN_TEST(b39_an_inactive_domain),
        UNCONNECTED_DOMAIN_TEST(b39_an_unknown_domain),
        UNCONNECTED_DOMAIN_TEST(b39_permission_denied),
        UNCONNECTED_DOMAIN_TEST(b47_a_dead_libvirtd),
        UNCONNECTED_DOMAIN_TEST(b47_a_silent_libvirtd),
        UNCONNECTED_DOMAIN_TEST(b47_nobody_listens),
        UNCONNECTED_DOMAIN_TEST(b47_what_listens_is_no_libvirtd),
    };
    return run_on_libvirt(tests);
}
