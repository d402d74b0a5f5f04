/* SPDX-License-Identifier: MIT */
/*
 * The address of a domain: the URI of a connection, as libvirt has it, the domain's name, and
 * ?readonly where nobody means to steer its jobs. That is behind the name, as what is in the URI
 * itself is libvirt's. Pure.
 */
#ifndef BJ_URI_H
#define BJ_URI_H

#include <stdbool.h>

struct domain_address {
    char *connection; /* libvirt's URI; NULL: its default */
    char *name;       /* or the UUID */
    bool is_read_only;
};

/* BJ_OK; BJ_E_INVAL, and *ret_why goes on from the uri to a sentence; BJ_E_NOMEM. */
int domain_address_parse(const char *uri, struct domain_address *ret, const char **ret_why);
void domain_address_clear(struct domain_address *address);

/* The driver works in this process: there is no connection that could miss events. */
bool uri_is_in_process(const char *uri);

/* The same connection, whose ssh asks nobody for a password at the terminal, unless the URI itself
 * decides about that. malloc'ed; NULL: no memory. */
char *uri_unattended(const char *uri);

#endif
