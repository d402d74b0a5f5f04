/* SPDX-License-Identifier: MIT */
/*
 * Monitor addresses: unix:/path, tcp:host:port, fd:N, and libvirt's domains.
 */
#ifndef BJ_DRIVER_ADDRESS_H
#define BJ_DRIVER_ADDRESS_H

#include "base/text.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

enum address_kind { ADDRESS_UNIX, ADDRESS_TCP, ADDRESS_FD, ADDRESS_LIBVIRT };

struct driver_module;
struct _virDomain;

struct address {
    enum address_kind kind;
    struct sockaddr_un path;            /* ADDRESS_UNIX */
    char *host;                         /* ADDRESS_TCP; malloc'ed, without brackets */
    char *port;                         /* points into host's memory */
    int fd;                             /* ADDRESS_FD; a duplicate, ours; else -1 */
    const struct driver_module *module; /* ADDRESS_LIBVIRT */
    struct _virDomain *domain;          /* the same; a reference; NULL: the uri says which */
};

/* BJ_OK; or BJ_E_INVAL, BJ_E_NOMEM or BJ_E_SYSTEM with a sentence in *ret_text. */
int address_parse(const char *uri, struct address *ret, struct text **ret_text);
void address_clear(struct address *address);

/* A reference to the domain, and what its uri would be, malloc'ed; else as above. */
int address_of_domain(struct _virDomain *domain, struct address *ret, char **ret_uri,
                      struct text **ret_text);

/* What it leads to is the program's own. */
bool address_is_callers(const struct address *address);

#endif
