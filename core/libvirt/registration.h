/* SPDX-License-Identifier: MIT */
/*
 * What libvirt holds of us: the opaque of a callback. It outlives its owner where it must, since
 * libvirt keeps a callback whose removal has failed, and may call the free function of one whose
 * registration has failed.
 */
#ifndef BJ_REGISTRATION_H
#define BJ_REGISTRATION_H

struct registration;

/* Any thread. NULL: no memory. */
struct registration *registration_new(void *owner);

/* A callback of libvirt's, with its opaque. The owner stays until registration_leave(); NULL, and
 * nothing to leave: it has gone. */
void *registration_enter(struct registration *registration);
void registration_leave(struct registration *registration);

/* A virFreeCallback. libvirt may hold locks of its own: only memory is freed. */
void registration_freed(void *opaque);

/* What the owner knows about libvirt's reference when it lets go of its own. */
enum registration_state {
    REGISTRATION_KEPT,    /* libvirt has it, and will call the free function */
    REGISTRATION_GONE,    /* libvirt has it no more, or never had it */
    REGISTRATION_DOUBTFUL /* registering has failed: the free function is called soon, or never */
};

/* Any thread but in a callback of it: no callback has the owner from here on. Takes NULL. */
void registration_drop(struct registration *registration, enum registration_state state);

#endif
