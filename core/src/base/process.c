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
/* Of the thread's number. Not thread-local storage: GCC 12's leak checker crashes on that of a
 * library which was loaded later, and musl loads none with the fast kind. */
static pthread_key_t number;

static void begin_child(void)
{
    atomic_fetch_add(&generation, 1);
    (void)pthread_setspecific(number, NULL);
}

int process_count_forks(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static bool has_key;
    static atomic_bool counts;

    if (atomic_load(&counts))
        return BJ_OK;
    pthread_mutex_lock(&lock);
    has_key = has_key || pthread_key_create(&number, NULL) == 0;
    if (has_key && !counts)
        counts = pthread_atfork(NULL, NULL, begin_child) == 0;
    pthread_mutex_unlock(&lock);
    return atomic_load(&counts) ? BJ_OK : BJ_E_NOMEM;
}

unsigned process_generation(void)
{
    return atomic_load_explicit(&generation, memory_order_relaxed);
}

pid_t thread_number(void)
{
    pid_t known = (pid_t)(intptr_t)pthread_getspecific(number);
    if (known != 0)
        return known;
    known = (pid_t)syscall(SYS_gettid);
    (void)pthread_setspecific(number, (void *)(intptr_t)known); /* without memory: asked again */
    return known;
}

bool thread_is_alive(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}
