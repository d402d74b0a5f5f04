/* SPDX-License-Identifier: MIT */
/*
 * Searches a world: whatever its steps lead to, breadth first, with worlds that are alike merged.
 *
 *   PROGRAM [-d DEPTH] [-s SECONDS] [-m MIB] [-H] [-w WALKS] [-l] [-t] [NAME]
 *
 * DEPTH: how many things may come from outside. SECONDS: of the processor, for all scenarios
 * together. MIB: of memory, for one. -H: of what was seen only the hashes are kept, 8 bytes for a
 * world; orders are not counted. NAME: part of the names of those that are wanted; -l lists
 * them. WALKS: not all orders, but so many by chance in each scenario, which can go deeper. -t
 * prints the tables of what is explored.
 */
#ifndef TESTS_EXPLORE_SEARCH_H
#define TESTS_EXPLORE_SEARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define STEPS_MAX 192

/* Each program has its own. */
struct world;
struct scenario; /* a setting, how the story begins, and what may happen in it from outside */
struct frozen;   /* a world without pointers and in one form only: two that behave alike are equal
                    byte by byte */

/* What may happen: a kind, and which. */
struct step {
    uint8_t kind, which;
};

struct explored {
    size_t world_size, frozen_size;
    int scenario_count, deep_count; /* the last ones are for searches by name, and for walks */
    const struct scenario *(*scenario)(int number);
    const char *(*name)(const struct scenario *scenario);

    void (*begin)(struct world *world, const struct scenario *scenario, int acts);
    void (*clear)(struct world *world);
    /* How many bytes of it count; the rest is nothing. */
    size_t (*freeze)(const struct world *world, struct frozen *frozen);
    void (*thaw)(struct world *world, const struct frozen *frozen, const struct scenario *scenario);

    bool (*is_by_itself)(struct step step);
    /* Those that happen by themselves come first. */
    int (*steps)(const struct world *world, struct step *ret_steps);
    void (*take)(struct world *world, struct step step); /* and looks at the rules */
    const char *(*step_text)(const struct world *world, struct step step, char *text, size_t size);

    /* If nothing more happens by itself: who may still wait? */
    void (*judge)(struct world *world, const struct step *steps, int count);
    /* The connection ends for good: whoever waits is answered. */
    void (*cut)(struct world *world);

    const char *(*broken)(const struct world *world); /* the rule that was broken first, or NULL */
    void (*listen)(struct world *world, FILE *log);   /* it tells what it does */

    int (*report)(void);        /* prints what should have been reached; how much; or NULL */
    void (*print_tables)(void); /* or NULL */
};

int explore_main(int argc, char **argv, const struct explored *game);

#endif
