/* SPDX-License-Identifier: MIT */
/*
 * Gives a fuzz target the inputs of its corpus, tests/fuzz/corpus/TARGET; or the files that it is
 * told.
 */
#include "cmocka_all.h"
#include "fuzz.h"

#include <dirent.h>
#include <unistd.h>

/* It only turns a hang into a failure. */
#define PATIENCE_S 600

static const char *target;
static char *const *files;

static void replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        fail_msg("%s can't be read", path);
    static uint8_t bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);

    /* Memory of its own size, so that a byte too far is seen. */
    uint8_t *data = malloc(size ? size : 1);
    assert_non_null(data);
    memcpy(data, bytes, size);
    int said = fprintf(stderr, "%s\r", path); /* the last one is the one that failed */
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    fprintf(stderr, "%*s\r", said, "");
}

static int replay_corpus(void)
{
    char folder[256], path[600];
    snprintf(folder, sizeof(folder), "tests/fuzz/corpus/%s", target);
    DIR *dir = opendir(folder);
    if (!dir) {
        fail_msg("there is no %s: run this from the top of the tree", folder);
        return 0;
    }

    int count = 0;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        replay_file(path);
        count++;
    }
    closedir(dir);
    return count;
}

static void b56_the_corpus(void **state)
{
    (void)state;
    alarm(PATIENCE_S);
    int count = 0;
    for (; files[count]; count++)
        replay_file(files[count]);
    if (count == 0)
        count = replay_corpus();
    print_message("%d inputs\n", count);
    assert_true(count > 0);
}

int main(int argc, char *argv[])
{
    (void)argc;
    const struct CMUnitTest tests[] = {cmocka_unit_test(b56_the_corpus)};
    const char *slash = strrchr(argv[0], '/');
    target = slash ? slash + 1 : argv[0];
    files = argv + 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
