/* SPDX-License-Identifier: MIT */
/*
 * Monitor addresses: unix:/path, tcp:host:port, fd:N.
 */
#ifndef BJ_ADDRESS_H
#define BJ_ADDRESS_H

#include "text.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP, ADDRESS_FD };

struct address {
    enum address_kind kind;
    struct sockaddr_un path; /* ADDRESS_UNIX */
    char *host;              /* ADDRESS_TCP; malloc'ed, without brackets */
    char *port;              /* points into host's memory */
    int fd;                  /* ADDRESS_FD; a duplicate, ours; else -1 */
};

/* BJ_OK; or BJ_E_INVAL, BJ_E_NOMEM or BJ_E_SYSTEM with a sentence in *ret_text. */
int address_parse(const char *uri, struct address *ret, struct text **ret_text);
void address_clear(struct address *address);

#endif
