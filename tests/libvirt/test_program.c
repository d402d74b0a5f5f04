/* SPDX-License-Identifier: MIT */
/*
 * libvirt's one event loop a process: the program's, registered before us or after us, or ours; the
 * program's own connections and domains beside the library's; many domains.
 */
#include "libvirt.h"

#include <errno.h>
#include <libvirt/libvirt.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A process has one event loop for good: each case runs in a process of its own, which is this
 * program with the case's name. A number other than 0 says in which step it went wrong. */
struct stage {
    const char *uri; /* of libvirt */
    const char *name;
    const char *copy; /* where vda can be copied to */
    bj_ctx *ctx;
    virConnectPtr conn;
    virDomainPtr domain;
};

#define must(step, condition)                                                                      \
    do {                                                                                           \
        if (!(condition))                                                                          \
            return step;                                                                           \
    } while (0)

/* ------------------------------------------------------- the program's own loop */

static void wake(int timer, void *user)
{
    (void)timer;
    (void)user;
}

static void *run_loop(void *user)
{
    (void)user;
    for (;;)
        virEventRunDefaultImpl();
    return NULL;
}

/* Until the end of the process, as programs do it. */
static bool start_own_loop(void)
{
    pthread_t thread;
    if (virEventRegisterDefaultImpl() != 0 || pthread_create(&thread, NULL, run_loop, NULL) != 0)
        return false;
    pthread_detach(thread);
    return virEventAddTimeout(100, wake, NULL, NULL) >= 0;
}

static bool open_own_connection(struct stage *s)
{
    s->conn = virConnectOpen(s->uri);
    s->domain = s->conn ? virDomainLookupByName(s->conn, s->name) : NULL;
    return s->domain;
}

static void close_own_connection(struct stage *s)
{
    virDomainFree(s->domain);
    virConnectClose(s->conn);
}

/* What the program's own connection hears: how often a block job became ready, or was over. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int ready, over;
} heard = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void on_block_job(virConnectPtr conn, virDomainPtr of, const char *disk, int type,
                         int status, void *user)
{
    (void)conn;
    (void)of;
    (void)disk;
    (void)type;
    (void)user;
    pthread_mutex_lock(&heard.mutex);
    if (status == VIR_DOMAIN_BLOCK_JOB_READY)
        heard.ready++;
    else
        heard.over++;
    pthread_cond_broadcast(&heard.changed);
    pthread_mutex_unlock(&heard.mutex);
}

static int listen_oneself(struct stage *s)
{
    return virConnectDomainEventRegisterAny(s->conn, s->domain, VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                                            VIR_DOMAIN_EVENT_CALLBACK(on_block_job), NULL, NULL);
}

static void await_both(void)
{
    pthread_mutex_lock(&heard.mutex);
    while (!heard.ready || !heard.over)
        pthread_cond_wait(&heard.changed, &heard.mutex);
    pthread_mutex_unlock(&heard.mutex);
}

/* -------------------------------------------------------------------- the cases */

static int answer_of(bj_future *future)
{
    bj_future_wait(future, BJ_TIMEOUT_NONE);
    int error = bj_future_error(future);
    if (error != BJ_OK)
        fprintf(stderr, "%s: %s\n", bj_error_name(error), bj_future_text(future));
    return error;
}

static bj_monitor *monitor_of(bj_future *connected)
{
    bj_monitor *monitor = answer_of(connected) == BJ_OK ? bj_future_monitor(connected) : NULL;
    bj_future_unref(connected);
    return monitor;
}

static bj_monitor *connect_by_uri(struct stage *s)
{
    char uri[512];
    snprintf(uri, sizeof(uri), "%s#%s", s->uri, s->name);
    return monitor_of(bj_monitor_connect(s->ctx, uri, BJ_TIMEOUT_DEFAULT));
}

/* A copy from its start to the pivot. */
static bool copies(struct stage *s, bj_monitor *monitor)
{
    bj_future *future =
        bj_monitor_mirror(monitor, "vda", s->copy, "full", REUSE, BJ_TIMEOUT_DEFAULT);
    bool done = false;
    if (answer_of(future) == BJ_OK) {
        bj_job *job = bj_future_job(future);
        bj_future *pivot = bj_job_pivot(job, BJ_PIVOT_WAIT_READY, 60 * 1000);
        done = answer_of(pivot) == BJ_OK && bj_job_outcome(job) == BJ_OUTCOME_PIVOTED;
        bj_future_unref(pivot);
        bj_job_unref(job);
    }
    bj_future_unref(future);
    return done;
}

static int loop_before_us(struct stage *s)
{
    must(10, start_own_loop());
    bj_monitor *monitor = connect_by_uri(s);
    must(11, monitor);
    must(12, copies(s, monitor));
    bj_monitor_unref(monitor);
    return 0;
}

static int loop_after_us(struct stage *s)
{
    bj_monitor *monitor = connect_by_uri(s);
    must(20, monitor);
    must(21, start_own_loop());
    must(22, open_own_connection(s));
    must(23, listen_oneself(s) >= 0);
    must(24, copies(s, monitor));
    await_both();
    bj_monitor_unref(monitor);
    close_own_connection(s);
    return 0;
}

static int no_loop_but_a_connection(struct stage *s)
{
    bj_monitor *monitor = connect_by_uri(s);
    must(30, monitor);
    must(31, open_own_connection(s));
    must(32, listen_oneself(s) >= 0);
    must(33, copies(s, monitor));
    await_both();
    bj_monitor_unref(monitor);

    /* Ours serves them also when we have nothing to do any more. */
    must(34, bj_ctx_close(s->ctx) == BJ_OK);
    must(35, virDomainIsActive(s->domain) == 1);
    close_own_connection(s);
    return 0;
}

static int connection_before_any_loop(struct stage *s)
{
    must(40, open_own_connection(s));
    bj_monitor *monitor = connect_by_uri(s);
    must(41, monitor);
    must(42, copies(s, monitor));
    must(43, virDomainIsActive(s->domain) == 1);
    bj_monitor_unref(monitor);
    close_own_connection(s);
    return 0;
}

static int domain_of_the_program(struct stage *s)
{
    must(50, start_own_loop());
    must(51, open_own_connection(s));
    must(52, listen_oneself(s) >= 0);
    bj_monitor *monitor =
        monitor_of(bj_monitor_connect_domain(s->ctx, s->domain, BJ_TIMEOUT_DEFAULT));
    must(53, monitor);
    must(54, copies(s, monitor));
    await_both();
    must(55, bj_monitor_set_reconnect(monitor, 1000) == BJ_E_INVAL);

    /* It stays the program's. */
    bj_monitor_close(monitor);
    bj_monitor_unref(monitor);
    must(56, virDomainIsActive(s->domain) == 1);
    must(57, virConnectIsAlive(s->conn) == 1);
    close_own_connection(s);
    return 0;
}

/* No loop was there when the connection was made, so nothing reads its events: either that is said,
 * or it works all the same; a wait for ever is neither. */
static int domain_without_any_loop(struct stage *s)
{
    must(60, open_own_connection(s));
    bj_future *connected = bj_monitor_connect_domain(s->ctx, s->domain, BJ_TIMEOUT_DEFAULT);
    bj_future_wait(connected, BJ_TIMEOUT_NONE);
    if (bj_future_error(connected) == BJ_OK) {
        bj_monitor *monitor = bj_future_monitor(connected);
        must(61, copies(s, monitor));
        bj_monitor_unref(monitor);
    } else {
        must(62, strstr(bj_future_text(connected), "event loop"));
    }
    bj_future_unref(connected);
    close_own_connection(s);
    return 0;
}

/* The socket's path has the name of a driver in it that works in this process. */
static int domain_of_an_embedded_socket(struct stage *s)
{
    char directory[] = "/tmp/blockjob-XXXXXX", link[64], uri[256];
    const char *socket = strstr(s->uri, "socket=") + strlen("socket=");
    must(110, mkdtemp(directory));
    snprintf(link, sizeof(link), "%s/embedded", directory);
    must(111, symlink(socket, link) == 0);
    snprintf(uri, sizeof(uri), "%.*s%s", (int)(socket - s->uri), s->uri, link);
    s->uri = uri;
    int step = domain_without_any_loop(s);
    unlink(link);
    rmdir(directory);
    return step;
}

/* Neither does what is used instead of a connection that never hears give more rights. */
static int domain_of_a_deaf_reader(struct stage *s)
{
    s->conn = virConnectOpenReadOnly(s->uri);
    must(120, s->conn);
    s->domain = virDomainLookupByName(s->conn, s->name);
    must(121, s->domain);
    bj_monitor *monitor =
        monitor_of(bj_monitor_connect_domain(s->ctx, s->domain, BJ_TIMEOUT_DEFAULT));
    must(122, monitor);
    bj_future *refused =
        bj_monitor_mirror(monitor, "vda", s->copy, "full", REUSE, BJ_TIMEOUT_DEFAULT);
    bj_future_wait(refused, BJ_TIMEOUT_NONE);
    must(123, bj_future_error(refused) == BJ_E_REFUSED);
    must(124, strstr(bj_future_text(refused), "read only"));
    bj_future_unref(refused);
    bj_monitor_unref(monitor);
    close_own_connection(s);
    return 0;
}

static int domain_of_our_loop(struct stage *s)
{
    bj_monitor *first = connect_by_uri(s); /* from now on there is a loop */
    must(70, first);
    must(71, open_own_connection(s));
    bj_monitor *monitor =
        monitor_of(bj_monitor_connect_domain(s->ctx, s->domain, BJ_TIMEOUT_DEFAULT));
    must(72, monitor);
    must(73, copies(s, monitor));
    bj_monitor_unref(monitor);
    bj_monitor_unref(first);
    close_own_connection(s);
    return 0;
}

/* The program may let go of its handles at once. */
static int domain_let_go_of(struct stage *s)
{
    must(80, start_own_loop());
    must(81, open_own_connection(s));
    bj_future *connecting = bj_monitor_connect_domain(s->ctx, s->domain, BJ_TIMEOUT_DEFAULT);
    close_own_connection(s);
    bj_monitor *monitor = monitor_of(connecting);
    must(82, monitor);
    must(83, copies(s, monitor));
    bj_monitor_unref(monitor);
    return 0;
}

static int no_domain(struct stage *s)
{
    bj_future *failed = bj_monitor_connect_domain(s->ctx, NULL, BJ_TIMEOUT_DEFAULT);
    must(90, bj_future_wait(failed, BJ_TIMEOUT_NONE) == BJ_OK);
    must(91, bj_future_error(failed) == BJ_E_INVAL);
    bj_future_unref(failed);
    return 0;
}

/* As a user who may only look. */
static int domain_of_a_reader(struct stage *s)
{
    must(100, start_own_loop());
    s->conn = virConnectOpenReadOnly(s->uri);
    must(101, s->conn);
    s->domain = virDomainLookupByName(s->conn, s->name);
    must(102, s->domain);
    bj_future *connected = bj_monitor_connect_domain(s->ctx, s->domain, BJ_TIMEOUT_DEFAULT);
    bj_future_wait(connected, BJ_TIMEOUT_NONE);
    int error = bj_future_error(connected);
    if (error == BJ_OK) {
        bj_monitor *monitor = bj_future_monitor(connected);
        bj_future *refused =
            bj_monitor_mirror(monitor, "vda", s->copy, "full", REUSE, BJ_TIMEOUT_DEFAULT);
        bj_future_wait(refused, BJ_TIMEOUT_NONE);
        must(103, bj_future_error(refused) == BJ_E_REFUSED);
        must(104, strstr(bj_future_text(refused), "read only"));
        bj_future_unref(refused);
        bj_monitor_unref(monitor);
    } else {
        must(105, error == BJ_E_CONNECT && strstr(bj_future_text(connected), "read only"));
    }
    bj_future_unref(connected);
    close_own_connection(s);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct stage *s);
} cases[] = {
    {"loop_before_us", loop_before_us},
    {"loop_after_us", loop_after_us},
    {"no_loop_but_a_connection", no_loop_but_a_connection},
    {"connection_before_any_loop", connection_before_any_loop},
    {"domain_of_the_program", domain_of_the_program},
    {"domain_without_any_loop", domain_without_any_loop},
    {"domain_of_our_loop", domain_of_our_loop},
    {"domain_of_an_embedded_socket", domain_of_an_embedded_socket},
    {"domain_let_go_of", domain_let_go_of},
    {"no_domain", no_domain},
    {"domain_of_a_reader", domain_of_a_reader},
    {"domain_of_a_deaf_reader", domain_of_a_deaf_reader},
};

static int run_case(const char *name, struct stage *s)
{
    if (virInitialize() != 0 || bj_ctx_new(&s->ctx) != BJ_OK)
        return 2;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, name) == 0) {
            int step = cases[i].run(s);
            bj_ctx_unref(s->ctx);
            return step;
        }
    }
    return 3;
}

static void in_a_process_of_its_own(world *w, const char *name)
{
    const char *copy = empty_image(w, "copy");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(120);
        execl(program_invocation_name, program_invocation_name, name, host_uri(), w->domain->name,
              copy, (char *)NULL);
        _exit(127);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0)
        fail_msg("%s: step %d, signal %d", name, WEXITSTATUS(status), WTERMSIG(status));
}

/* -------------------------------------------------------------------- the tests */

static void b68_a_loop_registered_before_us(void **state)
{
    in_a_process_of_its_own(*state, "loop_before_us");
}

static void b68_a_loop_registered_after_us(void **state)
{
    in_a_process_of_its_own(*state, "loop_after_us");
}

static void b68_no_loop_but_a_connection(void **state)
{
    in_a_process_of_its_own(*state, "no_loop_but_a_connection");
}

static void b68_a_connection_from_before_any_loop(void **state)
{
    in_a_process_of_its_own(*state, "connection_before_any_loop");
}

static void b68_a_domain_of_the_program(void **state)
{
    in_a_process_of_its_own(*state, "domain_of_the_program");
}

static void b68_a_domain_without_any_loop(void **state)
{
    in_a_process_of_its_own(*state, "domain_without_any_loop");
}

static void c136_a_socket_whose_path_says_embed(void **state)
{
    in_a_process_of_its_own(*state, "domain_of_an_embedded_socket");
}

static void b68_a_domain_that_our_loop_serves(void **state)
{
    in_a_process_of_its_own(*state, "domain_of_our_loop");
}

static void b68_a_domain_that_the_program_lets_go_of(void **state)
{
    in_a_process_of_its_own(*state, "domain_let_go_of");
}

static void b68_no_domain(void **state)
{
    in_a_process_of_its_own(*state, "no_domain");
}

static void b39_a_domain_of_a_connection_that_may_only_read(void **state)
{
    in_a_process_of_its_own(*state, "domain_of_a_reader");
}

static void c135_a_deaf_connection_that_may_only_read(void **state)
{
    in_a_process_of_its_own(*state, "domain_of_a_deaf_reader");
}

static void b67_many_domains_at_once(void **state)
{
    enum { DOMAINS = 12 };
    world *w = *state;
    domain *domains[DOMAINS];
    bj_future *pivots[DOMAINS];
    bj_future *connecting[DOMAINS];
    const char *copies_of[DOMAINS];

    for (int i = 0; i < DOMAINS; i++) {
        domains[i] = add_domain(w);
        copies_of[i] = empty_image(w, text_of(w, "copy%d", i));
    }
    for (int i = 0; i < DOMAINS; i++)
        connecting[i] = hold(w, bj_monitor_connect(w->ctx, domains[i]->uri, BJ_TIMEOUT_NONE));
    for (int i = 0; i < DOMAINS; i++) {
        w->monitor = hold_monitor(w, bj_future_monitor(answers(connecting[i], BJ_OK)));
        bj_job *job = mirror(w, "vda", copies_of[i], REUSE);
        pivots[i] = hold(w, bj_job_pivot(job, BJ_PIVOT_WAIT_READY, BJ_TIMEOUT_NONE));
    }
    for (int i = 0; i < DOMAINS; i++) {
        ends(pivots[i], BJ_OK, BJ_OUTCOME_PIVOTED);
        assert_string_equal(source_of(w, domains[i], "vda"), copies_of[i]);
    }
}

static void b75_connecting_and_closing_leaves_nothing(void **state)
{
    world *w = *state;
    for (int i = 0; i < 20; i++) {
        bj_ctx *ctx;
        assert_int_equal(bj_ctx_new(&ctx), BJ_OK);
        bj_future *connecting = bj_monitor_connect(ctx, w->domain->uri, BJ_TIMEOUT_DEFAULT);
        if (i % 2 == 0)
            answers(connecting, BJ_OK);
        assert_int_equal(bj_ctx_close(ctx), BJ_OK);
        bj_future_unref(connecting);
        bj_ctx_unref(ctx);
    }
}

int main(int argc, char **argv)
{
    if (argc == 5) {
        struct stage stage = {.uri = argv[2], .name = argv[3], .copy = argv[4]};
        return run_case(argv[1], &stage);
    }
    const struct CMUnitTest tests[] = {
        /* First: libev makes the last fd of libvirt's loop when a first timer of it runs. */
        UNCONNECTED_DOMAIN_TEST(b67_many_domains_at_once),
        UNCONNECTED_DOMAIN_TEST(b39_a_domain_of_a_connection_that_may_only_read),
        UNCONNECTED_DOMAIN_TEST(c135_a_deaf_connection_that_may_only_read),
        UNCONNECTED_DOMAIN_TEST(b68_a_connection_from_before_any_loop),
        UNCONNECTED_DOMAIN_TEST(b68_a_domain_of_the_program),
        UNCONNECTED_DOMAIN_TEST(b68_a_domain_that_our_loop_serves),
        UNCONNECTED_DOMAIN_TEST(b68_a_domain_that_the_program_lets_go_of),
        UNCONNECTED_DOMAIN_TEST(b68_a_domain_without_any_loop),
        UNCONNECTED_DOMAIN_TEST(b68_a_loop_registered_after_us),
        UNCONNECTED_DOMAIN_TEST(b68_a_loop_registered_before_us),
        UNCONNECTED_DOMAIN_TEST(b68_no_domain),
        UNCONNECTED_DOMAIN_TEST(b68_no_loop_but_a_connection),
        UNCONNECTED_DOMAIN_TEST(c136_a_socket_whose_path_says_embed),
        UNCONNECTED_DOMAIN_TEST(b75_connecting_and_closing_leaves_nothing),
    };
    return run_on_libvirt(tests);
}
