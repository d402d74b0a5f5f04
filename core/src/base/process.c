/* SPDX-License-Identifier: MIT */
/*
 * Processes and threads; see process.h.
 */
#include "base/process.h"

#include <blockjob/blockjob.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_uint generation;
static _Thread_local pid_t number; /* 0: not asked for yet */

static void begin_child(void)
{
    atomic_fetch_add(&generation, 1);
    number = 0;
}

/* Two threads that come here at once register it twice, which only makes the steps larger. */
int process_count_forks(void)
{
    static atomic_bool counts;
    if (atomic_load(&counts))
        return BJ_OK;
    if (pthread_atfork(NULL, NULL, begin_child) != 0)
        return BJ_E_NOMEM;
    atomic_store(&counts, true);
    return BJ_OK;
}

unsigned process_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

pid_t thread_number(void)
{
    if (number == 0)
        number = (pid_t)syscall(SYS_gettid);
    return number;
}

bool thread_is_alive(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}
