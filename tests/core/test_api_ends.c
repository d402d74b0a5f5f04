/* SPDX-License-Identifier: MIT */
/*
 * Ends that meet: what is under way when its job, its connection and its context go at once.
 */
#include "fake.h"
#include "records.h"

#include <pthread.h>
#include <semaphore.h>

static void b45_a_verb_under_way_when_its_job_went_is_answered(void **state)
{
    world *w = *state;
    bj_job *job = fake_mirror(w);
    step(w, JSON({"do": "hold", "command": "job-pause"}));
    bj_future *pause = hold(w, bj_job_pause(job, BJ_TIMEOUT_NONE));
    await_sent(w, "job-pause");

    step(w, JSON({"do": "fail", "error": "No space left on device"}));
    expect(w, bj_job_done(job, BJ_DONE_RELEASED, BJ_TIMEOUT_NONE), BJ_E_JOB_FAILED);
    bj_future *closed = hold(w, bj_monitor_closed(w->monitor));
    step(w, JSON({"do": "die"}));

    answers(closed, BJ_E_DISCONNECTED);
    answers(pause, BJ_E_STATE);
}

/* Keeps the loop busy, so that what is asked meanwhile meets in one round. */
struct brake {
    sem_t reached;
    sem_t released;
};

static void stand_on_the_brake(bj_future *future, void *user)
{
    (void)future;
    struct brake *brake = user;
    sem_post(&brake->reached);
    sem_wait(&brake->released);
}

static void *close_context(void *user)
{
    bj_ctx_close(user);
    return NULL;
}

static void b71_a_monitor_that_closes_with_its_context_takes_nobody_along(void **state)
{
    world *w = *state;
    struct brake brake;
    pthread_t closer;
    sem_init(&brake.reached, 0, 0);
    sem_init(&brake.released, 0, 0);
    bj_future *done = expect(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE), BJ_OK);
    bj_closure closure = {.fn = stand_on_the_brake, .user = &brake};
    assert_int_equal(bj_future_on_done(done, closure), BJ_OK);
    sem_wait(&brake.reached);

    pthread_create(&closer, NULL, close_context, w->ctx);
    bj_monitor_close(w->monitor);
    bj_future *asked = hold(w, bj_monitor_list(w->monitor, BJ_TIMEOUT_NONE));
    sem_post(&brake.released);

    answers(asked, BJ_E_CLOSED);
    pthread_join(closer, NULL);
    sem_destroy(&brake.reached);
    sem_destroy(&brake.released);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FAKE_TEST(b45_a_verb_under_way_when_its_job_went_is_answered),
        FAKE_TEST(b71_a_monitor_that_closes_with_its_context_takes_nobody_along),
    };
    return run_on_fake(tests);
}
