/* SPDX-License-Identifier: MIT */
/*
 * The yardstick of bench/pivot: a blocking socket, a string search, and nothing else. It checks
 * nothing, knows no errors, no other jobs and no deadlines: no less can be done between READY and
 * complete.
 *
 *     minimal SOCKET
 *
 * For each line "DEVICE TARGET" on stdin: connects, mirrors, pivots, hangs up, prints "pivoted".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char received[1 << 16];
static size_t length;

static void say(int fd, const char *text)
{
    if (write(fd, text, strlen(text)) < 0) {
        perror("minimal");
        exit(EXIT_FAILURE);
    }
}

/* Reads until `word` has come. What comes with it is kept for the next call. */
static void await(int fd, const char *word)
{
    char *found;

    while ((found = strstr(received, word)) == NULL) {
        ssize_t n = read(fd, received + length, sizeof received - 1 - length);
        if (n <= 0) {
            fprintf(stderr, "minimal: no %s came\n", word);
            exit(EXIT_FAILURE);
        }
        length += (size_t)n;
        received[length] = '\0';
    }
    found += strlen(word);
    length -= (size_t)(found - received);
    memmove(received, found, length + 1);
}

static void pivot(const struct sockaddr_un *address, const char *device, const char *target)
{
    char start[512];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    length = 0;
    received[0] = '\0';
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
        perror(address->sun_path);
        exit(EXIT_FAILURE);
    }
    await(fd, "QMP");
    say(fd, "{\"execute\": \"qmp_capabilities\"}\n");
    await(fd, "return");

    snprintf(start, sizeof start,
             "{\"execute\": \"blockdev-mirror\", \"arguments\": {\"job-id\": \"minimal\", "
             "\"device\": \"%s\", \"target\": \"%s\", \"sync\": \"full\"}}\n",
             device, target);
    say(fd, start);
    await(fd, "BLOCK_JOB_READY");
    say(fd, "{\"execute\": \"block-job-complete\", \"arguments\": {\"device\": \"minimal\"}}\n");
    await(fd, "BLOCK_JOB_COMPLETED");
    await(fd, "\"null\""); /* the id and the nodes are free again */
    close(fd);
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char device[64], target[64];

    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: minimal SOCKET\n");
        return EXIT_FAILURE;
    }
    strcpy(address.sun_path, argv[1]);

    while (scanf("%63s %63s", device, target) == 2) {
        pivot(&address, device, target);
        puts("pivoted");
        fflush(stdout);
    }
    return EXIT_SUCCESS;
}
