/* SPDX-License-Identifier: MIT */
/*
 * Copies a domain's disk and pivots, with libvirt alone.
 *
 *     minimal HOW URI DOMAIN
 *
 * HOW is the way it waits for the moment:
 *
 *     callback   BLOCK_JOB_2 says READY: pivots at once, on the thread of the events
 *     thread     the same, but another thread is woken, which pivots
 *     nova       asks twice a second, as Nova does, and pivots once all is copied and libvirt's XML
 *                calls the copy ready
 *     naive      asks without a rest, and pivots as soon as all is copied
 *
 * For each line "DEVICE TARGET BANDWIDTH" on stdin: starts the copy, prints "waiting", pivots,
 * prints when that was known to be over, in microseconds since 1970. "failed: " and why if libvirt
 * refused the pivot; it is then done by events, so that the next round finds the disk free.
 */
#include <errno.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum how { CALLBACK, THREAD, NOVA, NAIVE, HOWS };
static const char *const hows[HOWS] = {"callback", "thread", "nova", "naive"};

struct client {
    enum how how;
    virDomainPtr domain;
    char device[64];

    /* Told by events. */
    bool pivots_on_ready;
    sem_t ready;
    sem_t over;
    int status;
    int64_t over_us;
};

static void fail(const char *what)
{
    fprintf(stderr, "minimal: %s: %s\n", what, virGetLastErrorMessage());
    exit(EXIT_FAILURE);
}

static int64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void await(sem_t *moment)
{
    while (sem_wait(moment) != 0 && errno == EINTR)
        continue;
}

static void pivot_async(struct client *client)
{
    if (virDomainBlockJobAbort(client->domain, client->device,
                               VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT |
                                   VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC) != 0)
        fail("virDomainBlockJobAbort");
}

static void on_block_job(virConnectPtr connection, virDomainPtr domain, const char *disk, int type,
                         int status, void *user)
{
    struct client *client = user;

    (void)connection;
    (void)domain;
    (void)disk;
    (void)type;
    if (status == VIR_DOMAIN_BLOCK_JOB_READY) {
        if (client->pivots_on_ready)
            pivot_async(client);
        else
            sem_post(&client->ready);
    } else {
        client->over_us = now_us();
        client->status = status;
        sem_post(&client->over);
    }
}

/* libvirt would print each error. */
static void keep_quiet(void *unused, virErrorPtr error)
{
    (void)unused;
    (void)error;
}

static void *run_events(void *unused)
{
    (void)unused;
    while (virEventRunDefaultImpl() == 0)
        continue;
    fail("virEventRunDefaultImpl");
    return NULL;
}

static bool all_is_copied(struct client *client)
{
    virDomainBlockJobInfo info;
    int found = virDomainGetBlockJobInfo(client->domain, client->device, &info, 0);

    if (found < 0)
        fail("virDomainGetBlockJobInfo");
    return found == 1 && info.end != 0 && info.cur == info.end;
}

static bool xml_says_ready(struct client *client)
{
    char *xml = virDomainGetXMLDesc(client->domain, 0);

    if (xml == NULL)
        fail("virDomainGetXMLDesc");
    const char *mirror = strstr(xml, "<mirror ");
    bool ready = mirror != NULL && strstr(mirror, "ready='yes'") != NULL;
    free(xml);
    return ready;
}

/* Blocks until the disk is switched. */
static int pivot_sync(struct client *client)
{
    return virDomainBlockJobAbort(client->domain, client->device, VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT);
}

static void pivot_as_nova(struct client *client)
{
    while (!all_is_copied(client) || !xml_says_ready(client))
        usleep(500 * 1000);
    if (pivot_sync(client) != 0)
        fail("virDomainBlockJobAbort");
    printf("%" PRId64 "\n", now_us());
}

static void pivot_by_events(struct client *client)
{
    if (!client->pivots_on_ready) {
        await(&client->ready);
        pivot_async(client);
    }
    await(&client->over);
    if (client->status == VIR_DOMAIN_BLOCK_JOB_COMPLETED)
        printf("%" PRId64 "\n", client->over_us);
    else
        printf("failed: the copy ended with status %d\n", client->status);
}

static void pivot_naively(struct client *client)
{
    while (!all_is_copied(client))
        continue;
    if (pivot_sync(client) == 0) {
        printf("%" PRId64 "\n", now_us());
        await(&client->ready);
        await(&client->over);
        return;
    }
    printf("failed: %s\n", virGetLastErrorMessage());
    await(&client->ready);
    pivot_async(client);
    await(&client->over);
}

static void start(struct client *client, const char *target, unsigned long long bandwidth)
{
    char xml[512];
    virTypedParameterPtr parameters = NULL;
    int count = 0, room = 0;

    snprintf(xml, sizeof xml, "<disk type='file'><driver type='raw'/><source file='%s'/></disk>",
             target);
    if (bandwidth > 0)
        virTypedParamsAddULLong(&parameters, &count, &room, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH,
                                bandwidth);
    if (virDomainBlockCopy(client->domain, client->device, xml, parameters, count,
                           VIR_DOMAIN_BLOCK_COPY_REUSE_EXT) != 0)
        fail("virDomainBlockCopy");
    virTypedParamsFree(parameters, count);
}

static void open_domain(struct client *client, const char *uri, const char *name)
{
    pthread_t events;

    virSetErrorFunc(NULL, keep_quiet);
    if (virEventRegisterDefaultImpl() != 0)
        fail("virEventRegisterDefaultImpl");
    virConnectPtr connection = virConnectOpen(uri);
    if (connection == NULL)
        fail(uri);
    client->domain = virDomainLookupByName(connection, name);
    if (client->domain == NULL)
        fail(name);
    if (client->how == NOVA)
        return;

    sem_init(&client->ready, 0, 0);
    sem_init(&client->over, 0, 0);
    if (virConnectDomainEventRegisterAny(connection, client->domain,
                                         VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2,
                                         VIR_DOMAIN_EVENT_CALLBACK(on_block_job), client, NULL) < 0)
        fail("virConnectDomainEventRegisterAny");
    if (pthread_create(&events, NULL, run_events, NULL) != 0)
        fail("pthread_create");
}

int main(int argc, char **argv)
{
    static struct client client;
    static void (*const pivots[HOWS])(struct client *) = {
        [CALLBACK] = pivot_by_events,
        [THREAD] = pivot_by_events,
        [NOVA] = pivot_as_nova,
        [NAIVE] = pivot_naively,
    };
    char target[256];
    unsigned long long bandwidth;

    while (argc == 4 && client.how < HOWS && strcmp(argv[1], hows[client.how]) != 0)
        client.how++;
    if (argc != 4 || client.how == HOWS) {
        fprintf(stderr, "usage: minimal callback|thread|nova|naive URI DOMAIN\n");
        return EXIT_FAILURE;
    }
    client.pivots_on_ready = client.how == CALLBACK;
    open_domain(&client, argv[2], argv[3]);

    while (scanf("%63s %255s %llu", client.device, target, &bandwidth) == 3) {
        start(&client, target, bandwidth);
        puts("waiting");
        fflush(stdout);
        pivots[client.how](&client);
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
