/* SPDX-License-Identifier: MIT */
/*
 * A server inside the test: the other end of a socketpair, and a thread that plays it. It may say
 * what no QEMU says. It allocates nothing, so that a test can count what the library does.
 */
#ifndef TESTS_PEER_H
#define TESTS_PEER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct peer peer;
typedef void peer_play(peer *p, void *user);

/* Plays until the function returns; then reads until the other side hangs up. */
peer *peer_start(peer_play *play, void *user);

/* For bj_monitor_connect(), which takes a duplicate; then peer_connected() closes ours, so that the
 * peer sees the end of the connection. */
const char *peer_uri(const peer *p);
void peer_connected(peer *p);

/* The same for whoever connects to that path, one after the other; each is hung up on when `play`
 * returns. */
peer *peer_listen(const char *path, peer_play *play, void *user);

/* Takes NULL; what the peer plays must be about to end. */
void peer_end(peer *p);

/* --------------------------------------------------------- on the peer's thread */

/* A command as it came. Its strings are valid until the next one is read. */
typedef struct peer_command {
    const char *name;
    const char *id;        /* its text, a number */
    const char *arguments; /* the text of the object, or "" */
} peer_command;

/* All of these are false once the other side has hung up. */
bool peer_send(peer *p, const char *bytes, size_t len);
bool peer_say(peer *p, const char *text);
bool peer_tell(peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
void peer_drip(peer *p, bool drips); /* a byte at a time from now on */
bool peer_hear(peer *p, peer_command *ret_command);
bool peer_answer(peer *p, const peer_command *command, const char *value); /* JSON */

/* Greets, and answers all commands up to the negotiation's end: it has those of `commands`, names
 * between spaces. */
bool peer_greet(peer *p, const char *commands);

/* The string of that key in a command's arguments, "" if there is none. */
const char *peer_argument(peer *p, const peer_command *command, const char *key);

/* Answers what comes as a QEMU does that has mirrors which are ready at once, and other jobs which
 * run until they are cancelled; until the other side hangs up. */
void peer_serve(peer *p);
/* The same for one command. */
bool peer_obey(peer *p, const peer_command *command);

/* Its socket: for what nothing here does. Nothing that was read from it may be left. */
int peer_socket(const peer *p);

/* Reads and forgets until the other side hangs up. */
void peer_drain(peer *p);

/* Ends the connection before the function returns. */
void peer_hang_up(peer *p);

/* The words of a QEMU 7.2. */
extern const char peer_modern[];

#endif
