/* SPDX-License-Identifier: MIT */
/*
 * Names and short sentences for error codes and outcomes.
 */
#include <blockjob/blockjob.h>

#include <stddef.h>

struct word {
    const char *name;
    const char *text;
};

static const struct word errors[] = {
    [BJ_OK] = {"BJ_OK", "success"},
    [-BJ_E_INVAL] = {"BJ_E_INVAL", "an argument makes no sense"},
    [-BJ_E_NOMEM] = {"BJ_E_NOMEM", "out of memory"},
    [-BJ_E_SYSTEM] = {"BJ_E_SYSTEM",
                      "the operating system refused a file descriptor, a thread or an epoll watch: "
                      "see ulimit -n, ulimit -u, fs.epoll.max_user_watches"},
    [-BJ_E_FORKED] = {"BJ_E_FORKED", "the object belongs to the parent process: connect anew"},
    [-BJ_E_DEADLOCK] = {"BJ_E_DEADLOCK",
                        "a blocking call on the loop's own thread would never return"},
    [-BJ_E_PENDING] = {"BJ_E_PENDING", "there is no answer yet"},
    [-BJ_E_TIMEOUT] = {"BJ_E_TIMEOUT", "the deadline passed; nothing was done to the job"},
    [-BJ_E_CANCELLED] = {"BJ_E_CANCELLED", "the wait was cancelled; the job goes on"},
    [-BJ_E_CLOSED] = {"BJ_E_CLOSED", "closed by this program"},
    [-BJ_E_BUSY] = {"BJ_E_BUSY", "a limit of the context was reached; nothing was sent"},
    [-BJ_E_UNSUPPORTED] = {"BJ_E_UNSUPPORTED", "this QEMU has no such command"},
    [-BJ_E_CONNECT] = {"BJ_E_CONNECT", "no connection could be made"},
    [-BJ_E_PROTOCOL] = {"BJ_E_PROTOCOL",
                        "the peer does not speak QMP, or said more than the limits allow"},
    [-BJ_E_DISCONNECTED] = {"BJ_E_DISCONNECTED", "the connection ended before the answer came"},
    [-BJ_E_REFUSED] = {"BJ_E_REFUSED", "QEMU refused the command"},
    [-BJ_E_NO_JOB] = {"BJ_E_NO_JOB", "there is no such job"},
    [-BJ_E_NOT_READY] = {"BJ_E_NOT_READY", "the job is not ready"},
    [-BJ_E_STALLED] = {"BJ_E_STALLED", "the job stands still: resume it, or abort it with force"},
    [-BJ_E_STATE] = {"BJ_E_STATE", "that does not fit what the job is or does"},
    [-BJ_E_JOB_FAILED] = {"BJ_E_JOB_FAILED", "the job failed"},
    [-BJ_E_JOB_LOST] = {"BJ_E_JOB_LOST", "how the job ended can't be known"},
    [-BJ_E_JOB_ENDED] = {"BJ_E_JOB_ENDED", "the job ended otherwise than asked"},
};

static const char *const outcomes[] = {
    [BJ_OUTCOME_NONE] = "NONE",           [BJ_OUTCOME_COMPLETED] = "COMPLETED",
    [BJ_OUTCOME_PIVOTED] = "PIVOTED",     [BJ_OUTCOME_COPIED] = "COPIED",
    [BJ_OUTCOME_CANCELLED] = "CANCELLED", [BJ_OUTCOME_FAILED] = "FAILED",
    [BJ_OUTCOME_LOST] = "LOST",
};

static const struct word *error_word(int error)
{
    static const struct word unknown = {"BJ_E_?", "unknown error code"};
    size_t n = sizeof errors / sizeof errors[0];

    if (error > 0 || error <= -(int)n)
        return &unknown;
    return &errors[-error];
}

const char *bj_error_name(int error)
{
    return error_word(error)->name;
}

const char *bj_error_text(int error)
{
    return error_word(error)->text;
}

const char *bj_outcome_name(bj_outcome outcome)
{
    size_t index = (size_t)outcome;
    return index < sizeof outcomes / sizeof outcomes[0] ? outcomes[index] : "?";
}

#define STRING(x) #x
#define VERSION(major, minor, patch) STRING(major) "." STRING(minor) "." STRING(patch)

int bj_version_number(void)
{
    return BJ_VERSION_NUMBER;
}

const char *bj_version(void)
{
    return VERSION(BJ_VERSION_MAJOR, BJ_VERSION_MINOR, BJ_VERSION_PATCH);
}
