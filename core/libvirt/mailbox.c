/* SPDX-License-Identifier: MIT */
/*
 * The way from libvirt's threads to a context's loop; see mailbox.h.
 */
#include "mailbox.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct mailbox {
    atomic_uint refs;
    pthread_mutex_t lock;
    struct loop *loop; /* NULL: closed */
};

struct mailbox *mailbox_new(struct loop *loop)
{
    struct mailbox *mailbox = calloc(1, sizeof *mailbox);
    if (!mailbox)
        return NULL;
    atomic_init(&mailbox->refs, 1);
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->loop = loop;
    return mailbox;
}

struct mailbox *mailbox_ref(struct mailbox *mailbox)
{
    atomic_fetch_add(&mailbox->refs, 1);
    return mailbox;
}

struct mailbox *mailbox_unref(struct mailbox *mailbox)
{
    if (!mailbox || atomic_fetch_sub(&mailbox->refs, 1) != 1)
        return NULL;
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
    return NULL;
}

void mailbox_close(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->loop = NULL;
    pthread_mutex_unlock(&mailbox->lock);
}

bool mailbox_post(struct mailbox *mailbox, struct loop_task *task)
{
    pthread_mutex_lock(&mailbox->lock); /* also while posting: after the close the loop may go */
    bool posted = mailbox->loop && loop_post(mailbox->loop, task);
    pthread_mutex_unlock(&mailbox->lock);
    return posted;
}
