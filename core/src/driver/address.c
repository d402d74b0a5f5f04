/* SPDX-License-Identifier: MIT */
/*
 * Monitor addresses; see address.h.
 */
#include "driver/address.h"
#include "driver/module.h"

#include <blockjob/blockjob.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int parse_unix(const char *path, struct address *ret, struct text **ret_text)
{
    size_t len = strlen(path);

    if (len == 0) {
        *ret_text = text_printf("the monitor address \"unix:\" lacks a path");
        return BJ_E_INVAL;
    }
    if (len >= sizeof ret->path.sun_path) {
        *ret_text =
            text_printf("the socket path %s is longer than the %zu bytes that the system allows",
                        path, sizeof ret->path.sun_path - 1);
        return BJ_E_INVAL;
    }
    ret->kind = ADDRESS_UNIX;
    ret->path.sun_family = AF_UNIX;
    memcpy(ret->path.sun_path, path, len + 1);
    return BJ_OK;
}

static bool is_port(const char *port)
{
    char *end;
    errno = 0;
    long number = strtol(port, &end, 10);
    return *port >= '0' && *port <= '9' && !*end && errno == 0 && number >= 1 && number <= 65535;
}

/* Takes the brackets off [::1]; false if `host` is neither that nor a name or an IPv4 address. */
static bool unwrap_host(char *host)
{
    size_t len = strlen(host);

    if (host[0] != '[')
        return len > 0 && !strpbrk(host, "[]:");
    if (len < 3 || host[len - 1] != ']')
        return false;
    host[len - 1] = '\0';
    memmove(host, host + 1, len - 1);
    return !strpbrk(host, "[]");
}

static int parse_tcp(const char *rest, struct address *ret, struct text **ret_text)
{
    char *host = strdup(rest);
    if (!host) {
        *ret_text = text_printf("out of memory");
        return BJ_E_NOMEM;
    }
    char *colon = strrchr(host, ':');
    if (colon)
        *colon = '\0';
    if (!colon || !is_port(colon + 1) || !unwrap_host(host)) {
        *ret_text = text_printf("tcp:%s is not tcp:HOST:PORT with a port from 1 to 65535, or "
                                "tcp:[ADDRESS]:PORT for IPv6",
                                rest);
        free(host);
        return BJ_E_INVAL;
    }
    ret->kind = ADDRESS_TCP;
    ret->host = host;
    ret->port = colon + 1;
    return BJ_OK;
}

static int parse_fd(const char *number, struct address *ret, struct text **ret_text)
{
    char *end;
    errno = 0;
    long fd = strtol(number, &end, 10);
    int type;
    socklen_t len = sizeof type;

    if (*number < '0' || *number > '9' || *end || errno || fd > 0x7fffffff) {
        *ret_text = text_printf("fd:%s is not fd:NUMBER", number);
        return BJ_E_INVAL;
    }
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof peer;
    if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_STREAM ||
        getpeername((int)fd, (struct sockaddr *)&peer, &peer_len) != 0) {
        *ret_text = text_printf("fd:%ld is not an open, connected stream socket", fd);
        return BJ_E_INVAL;
    }
    ret->kind = ADDRESS_FD;
    ret->fd = fcntl((int)fd, F_DUPFD_CLOEXEC, 0);
    if (ret->fd < 0) {
        *ret_text = text_printf("can't duplicate fd:%ld: %s", fd, strerror(errno));
        return BJ_E_SYSTEM;
    }
    return BJ_OK;
}

static int parse_libvirt(const char *uri, struct address *ret, struct text **ret_text)
{
    ret->kind = ADDRESS_LIBVIRT;
    int r = driver_module_load(uri, &ret->module, ret_text);
    return r == BJ_OK ? ret->module->check(uri, ret_text) : r;
}

int address_parse(const char *uri, struct address *ret, struct text **ret_text)
{
    *ret = (struct address){.fd = -1};

    if (uri[0] == '/')
        return parse_unix(uri, ret, ret_text);
    if (strncmp(uri, "unix:", 5) == 0)
        return parse_unix(uri + 5, ret, ret_text);
    if (strncmp(uri, "tcp:", 4) == 0)
        return parse_tcp(uri + 4, ret, ret_text);
    if (strncmp(uri, "fd:", 3) == 0)
        return parse_fd(uri + 3, ret, ret_text);
    if (strncmp(uri, "qemu", 4) == 0 || strncmp(uri, "libvirt:", 8) == 0)
        return parse_libvirt(uri, ret, ret_text);
    *ret_text = text_printf("\"%s\" is no monitor address: use unix:PATH, tcp:HOST:PORT, fd:NUMBER "
                            "or, for a domain of libvirt's, qemu:///system#NAME",
                            uri);
    return BJ_E_INVAL;
}

int address_of_domain(struct _virDomain *domain, struct address *ret, char **ret_uri,
                      struct text **ret_text)
{
    *ret = (struct address){.kind = ADDRESS_LIBVIRT, .fd = -1};
    int r = driver_module_load("a domain of libvirt's", &ret->module, ret_text);
    if (r != BJ_OK)
        return r;
    *ret_uri = ret->module->uri_of(domain);
    if (!*ret_uri) {
        *ret_text = text_printf("%s", bj_error_text(BJ_E_NOMEM));
        return BJ_E_NOMEM;
    }
    ret->domain = domain;
    ret->module->ref(domain);
    return BJ_OK;
}

bool address_is_callers(const struct address *address)
{
    return address->kind == ADDRESS_FD || address->domain;
}

void address_clear(struct address *address)
{
    free(address->host);
    if (address->fd >= 0)
        close(address->fd);
    if (address->domain)
        address->module->unref(address->domain);
    *address = (struct address){.fd = -1};
}
