/* SPDX-License-Identifier: MIT */
/*
 * Starting and ending the servers of a test.
 */
#include "process.h"

#include "cmocka_all.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void inherit(int fd)
{
    if (fd >= 0)
        fcntl(fd, F_SETFD, 0);
}

/* After fork: only what is async-signal-safe, for the library has threads. */
static void become(const char *const argv[], int out, int log_fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(126);

    int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execvp(argv[0], (char *const *)(uintptr_t)argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

pid_t process_start(const char *const argv[], const char *log, int fd0, int fd1, int *ret_out)
{
    int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(log_fd >= 0);
    int ends[2] = {-1, -1};
    assert_true(!ret_out || pipe2(ends, O_CLOEXEC) == 0);

    pid_t parent = getpid();
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        inherit(fd0);
        inherit(fd1);
        become(argv, ret_out ? ends[1] : log_fd, log_fd, parent);
    }

    close(log_fd);
    if (ret_out) {
        close(ends[1]);
        *ret_out = ends[0];
    }
    return pid;
}

void process_leave(int status)
{
    char code[32];
    (void)snprintf(code, sizeof code, "exit %d", status);
    execl("/bin/sh", "sh", "-c", code, (char *)NULL);
    _exit(127);
}

void process_end(pid_t *pid)
{
    if (*pid <= 0)
        return;
    kill(*pid, SIGKILL);
    waitpid(*pid, NULL, 0);
    *pid = 0;
}
