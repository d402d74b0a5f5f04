/* SPDX-License-Identifier: MIT */
/*
 * The way from libvirt's threads to a context's loop, which may be gone before they are: libvirt's
 * calls can block for ever.
 */
#ifndef BJ_MAILBOX_H
#define BJ_MAILBOX_H

#include "base/loop.h"

struct mailbox;

struct mailbox *mailbox_new(struct loop *loop); /* NULL: no memory */
struct mailbox *mailbox_ref(struct mailbox *mailbox);
struct mailbox *mailbox_unref(struct mailbox *mailbox); /* takes NULL */

/* The loop's thread: nothing is posted any more; what was posted before still runs. */
void mailbox_close(struct mailbox *mailbox);

/* Any thread. False once it is closed: the task will not run. */
bool mailbox_post(struct mailbox *mailbox, struct loop_task *task);

#endif
