/* SPDX-License-Identifier: MIT */
/*
 * What all fuzz targets share. Each is built twice: by clang with libFuzzer, which makes up inputs,
 * and by the usual compiler with replay.c, which gives it those of the corpus.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise that was broken ends the process: libFuzzer keeps the input then. */
static inline void must(bool kept, const char *promise)
{
    if (kept)
        return;
    fprintf(stderr, "broken: %s\n", promise);
    abort();
}

/* An input that is taken apart from the front; 0 when it is used up. */
struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t take_byte(struct input *input)
{
    if (input->left == 0)
        return 0;
    input->left--;
    return *input->at++;
}

/* A copy of the rest with a NUL after it. */
static inline char *take_text(struct input *input, size_t *ret_len)
{
    char *text = malloc(input->left + 1);
    must(text != NULL, "there is memory");
    for (size_t i = 0; i < input->left; i++)
        text[i] = (char)input->at[i];
    text[input->left] = '\0';
    *ret_len = input->left;
    input->left = 0;
    return text;
}

#endif
