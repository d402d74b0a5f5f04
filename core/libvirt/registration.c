/* SPDX-License-Identifier: MIT */
/*
 * What libvirt holds of us; see registration.h.
 */
#include "registration.h"

#include <libvirt/libvirt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

struct registration {
    atomic_uint refs;  /* the owner's, libvirt's, and that of a timeout which settles a doubt */
    atomic_bool freed; /* libvirt's reference is gone */
    pthread_mutex_t lock;
    void *owner; /* NULL: it has gone */
};

struct registration *registration_new(void *owner)
{
    struct registration *registration = calloc(1, sizeof *registration);
    if (!registration)
        return NULL;
    atomic_init(&registration->refs, 2);
    pthread_mutex_init(&registration->lock, NULL);
    registration->owner = owner;
    return registration;
}

static void unref(struct registration *registration)
{
    if (atomic_fetch_sub(&registration->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&registration->lock);
    free(registration);
}

void *registration_enter(struct registration *registration)
{
    pthread_mutex_lock(&registration->lock);
    void *owner = registration->owner;
    if (!owner)
        pthread_mutex_unlock(&registration->lock);
    return owner;
}

void registration_leave(struct registration *registration)
{
    pthread_mutex_unlock(&registration->lock);
}

void registration_freed(void *opaque)
{
    struct registration *registration = opaque;
    if (!atomic_exchange(&registration->freed, true))
        unref(registration);
}

static void on_settled(int timeout, void *opaque)
{
    struct registration *registration = opaque;
    virEventRemoveTimeout(timeout);
    registration_freed(registration);
    unref(registration);
}

/* A registration that fails while libvirt delivers events is removed, and freed, when that is over.
 * libvirt delivers on its loop's thread, in a timeout: one that begins now comes after it. Without
 * a timeout the memory is left to libvirt. */
static void settle(struct registration *registration)
{
    atomic_fetch_add(&registration->refs, 1);
    if (virEventAddTimeout(0, on_settled, registration, NULL) < 0)
        unref(registration);
}

void registration_drop(struct registration *registration, enum registration_state state)
{
    if (!registration)
        return;
    pthread_mutex_lock(&registration->lock);
    registration->owner = NULL;
    pthread_mutex_unlock(&registration->lock);

    if (state == REGISTRATION_GONE)
        registration_freed(registration);
    else if (state == REGISTRATION_DOUBTFUL)
        settle(registration);
    unref(registration);
}
