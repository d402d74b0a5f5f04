/* SPDX-License-Identifier: MIT */
/*
 * Every order in which things can happen in a world, breadth first, with worlds that are alike
 * merged; see explore_search.h and docs/explorer.md.
 */
#include "explore_search.h"

#include "explore_search_store.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define FINDINGS 8
#define PATH_MAX_STEPS 1024
#define HASHES_SHARE 2 /* -H: half of the memory; the rest is for worlds */

enum how { BY_STEP, BY_STANDSTILL, BY_CUT };

/* A rule that was broken: by the last step of the path, or in the world that it leads to. */
struct finding {
    const char *rule;
    uint8_t path[PATH_MAX_STEPS]; /* as in struct reached */
    size_t length;
    enum how how;
};

struct search {
    const struct explored *game;
    const struct scenario *scenario;
    struct world *world;           /* in which a step is taken */
    struct frozen *before, *after; /* where it began, and what it has led to */
    unsigned char *packed;         /* what it has led to */
    uint8_t path[PATH_MAX_STEPS];  /* to `before`, and the step from there */
    size_t length;
    int acts;
    double until; /* on the clock of now() */
    size_t memory;

    struct seen seen;
    struct queue queue; /* not gone on from yet */
    size_t level, next; /* how many of these were reached last, and are reached from them */
    uint32_t number;    /* of `before` */

    int depth;
    size_t transitions;  /* also those that lead to what was seen before, and the cuts */
    const char *stopped; /* why before it had seen all */

    struct finding findings[FINDINGS]; /* the shortest for each rule */
    int broken;
};

/* Of this process's own time: a busy machine makes the search slower, not shallower. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ----------------------------------------------------------------- searching */

/* The path leads to `after`. */
static void reach(struct search *s, size_t size)
{
    struct reached reached = {.path = s->path, .packed = s->packed};

    reached.length = (uint16_t)s->length;
    reached.size = (uint16_t)pack(s->after, size, s->packed);
    if (!seen_add(&s->seen, s->packed, reached.size, s->number))
        return;
    queue_put(&s->queue, &reached);
    s->next++;
}

/* Breadth first: the first is the shortest. */
static void note(struct search *s, enum how how)
{
    const char *rule = s->game->broken(s->world);

    for (int i = 0; i < s->broken; i++)
        if (strcmp(s->findings[i].rule, rule) == 0)
            return;
    if (s->broken == FINDINGS)
        return;
    struct finding *finding = &s->findings[s->broken++];
    *finding = (struct finding){.rule = rule, .length = s->length, .how = how};
    memcpy(finding->path, s->path, s->length);
}

/* It is the last of the path. */
static void take_step(struct search *s, struct step step)
{
    const struct explored *game = s->game;

    game->thaw(s->world, s->before, s->scenario);
    game->take(s->world, step);
    s->transitions++;
    if (game->broken(s->world)) {
        note(s, BY_STEP);
        game->clear(s->world);
        return;
    }
    size_t size = game->freeze(s->world, s->after);
    game->clear(s->world);
    reach(s, size);
}

static void judge(struct search *s, const struct step *steps, int count)
{
    const struct explored *game = s->game;

    game->judge(s->world, steps, count);
    if (game->broken(s->world)) {
        note(s, BY_STANDSTILL);
        return;
    }
    game->cut(s->world);
    s->transitions++;
    if (game->broken(s->world))
        note(s, BY_CUT);
}

static void expand(struct search *s, const struct reached *reached)
{
    struct step steps[STEPS_MAX];

    unpack(reached->packed, reached->size, s->before);
    memcpy(s->path, reached->path, reached->length);
    s->length = reached->length;
    s->game->thaw(s->world, s->before, s->scenario);
    int count = s->game->steps(s->world, steps);
    judge(s, steps, count);
    s->game->clear(s->world);
    s->length++;
    for (int i = 0; i < count; i++) {
        s->path[s->length - 1] = (uint8_t)i;
        take_step(s, steps[i]);
    }
}

static bool is_full(const struct search *s)
{
    return seen_is_full(&s->seen) || seen_bytes(&s->seen) + s->queue.bytes > s->memory;
}

static void search_level(struct search *s)
{
    struct reached reached;

    for (size_t i = 0; i < s->level && !s->stopped && queue_take(&s->queue, &reached); i++) {
        expand(s, &reached);
        s->number++;
        if (i % 1024 == 0 && now() > s->until)
            s->stopped = "time";
        if (is_full(s))
            s->stopped = "memory";
    }
}

static void search_all(struct search *s)
{
    const struct explored *game = s->game;

    game->begin(s->world, s->scenario, s->acts);
    size_t size = game->freeze(s->world, s->after);
    game->clear(s->world);
    reach(s, size);
    while (s->next > 0 && !s->stopped) {
        s->depth = (int)s->length;
        s->level = s->next;
        s->next = 0;
        if (s->depth == PATH_MAX_STEPS)
            s->stopped = "depth";
        search_level(s);
    }
}

static void clear_search(struct search *s)
{
    seen_clear(&s->seen);
    queue_clear(&s->queue);
}

/* ------------------------------------------------------------------ telling */

static void tell_step(const struct explored *game, struct world *w, int number, struct step step)
{
    char text[160];
    printf("    %3d.  %s\n", number, game->step_text(w, step, text, sizeof text));
    game->listen(w, stdout);
    game->take(w, step);
}

/* As in the search, where what has a number may get another one. */
static void refreeze(const struct explored *game, struct world *w, struct frozen *frozen,
                     const struct scenario *scenario)
{
    game->freeze(w, frozen);
    game->clear(w);
    game->thaw(w, frozen, scenario);
}

static void tell_path(const struct search *s, const struct finding *finding)
{
    const struct explored *game = s->game;
    struct step steps[STEPS_MAX];
    int number = 0;

    printf("  BROKEN: %s\n", finding->rule);
    game->begin(s->world, s->scenario, s->acts);
    refreeze(game, s->world, s->after, s->scenario);
    while (number < (int)finding->length) {
        game->steps(s->world, steps);
        struct step step = steps[finding->path[number]];
        tell_step(game, s->world, ++number, step);
        if (!game->broken(s->world))
            refreeze(game, s->world, s->after, s->scenario);
    }
    if (finding->how == BY_CUT) {
        printf("    %3d.  the connection ends for good\n", number + 1);
        game->listen(s->world, stdout);
        game->cut(s->world);
    } else if (finding->how == BY_STANDSTILL) {
        printf("          and nothing more happens by itself\n");
    }
    game->clear(s->world);
}

/* Its orders, or none if they can't be counted. */
static double tell(const struct search *s, double seconds)
{
    struct orders orders = {0};

    printf("%-58s %9zu states %10zu transitions  ", s->game->name(s->scenario), s->seen.count,
           s->transitions);
    if (s->seen.by_hash) {
        printf("mistaken: %.1e", seen_mistaken(&s->seen));
    } else {
        orders = seen_orders(&s->seen);
        printf("%s%8.2e orders", orders.at_least ? ">" : " ", orders.count);
    }
    printf("  depth %2d  %5.1f s%s%s\n", s->depth, seconds, s->stopped ? "  stopped: " : "",
           s->stopped ? s->stopped : "");
    fflush(stdout);
    return orders.count;
}

/* ----------------------------------------------------------------- walking */

struct walk {
    const struct explored *game;
    const struct scenario *scenario;
    struct world *world;
    struct frozen *frozen;
    int acts;
    uint64_t dice;
    struct step path[PATH_MAX_STEPS];
    int length;
};

static int roll(struct walk *walk, int sides)
{
    walk->dice ^= walk->dice << 13;
    walk->dice ^= walk->dice >> 7;
    walk->dice ^= walk->dice << 17;
    return (int)((walk->dice >> 33) % (uint64_t)sides);
}

/* One of those that happen by themselves more often than not, so that the wire does not fill. */
static struct step pick(struct walk *walk, const struct step *steps, int count)
{
    int own = 0;
    while (own < count && walk->game->is_by_itself(steps[own]))
        own++;
    if (own > 0 && (own == count || roll(walk, 4) > 0))
        return steps[roll(walk, own)];
    return steps[own + roll(walk, count - own)];
}

static const char *take_walk(struct walk *walk)
{
    const struct explored *game = walk->game;
    struct world *w = walk->world;
    struct step steps[STEPS_MAX];

    walk->length = 0;
    game->begin(w, walk->scenario, walk->acts);
    while (!game->broken(w) && walk->length < PATH_MAX_STEPS) {
        refreeze(game, w, walk->frozen, walk->scenario);
        int count = game->steps(w, steps);
        game->judge(w, steps, count);
        if (game->broken(w) || count == 0)
            break;
        walk->path[walk->length] = pick(walk, steps, count);
        game->take(w, walk->path[walk->length++]);
    }
    if (!game->broken(w))
        game->cut(w);
    const char *broken = game->broken(w);
    game->clear(w);
    return broken;
}

static void tell_walk(const struct walk *walk, const char *broken)
{
    const struct explored *game = walk->game;

    printf("%s\n  BROKEN: %s\n", game->name(walk->scenario), broken);
    game->begin(walk->world, walk->scenario, walk->acts);
    for (int i = 0; i < walk->length; i++) {
        refreeze(game, walk->world, walk->frozen, walk->scenario);
        tell_step(game, walk->world, i + 1, walk->path[i]);
    }
    game->clear(walk->world);
}

/* The same walks for the same options. */
static int walk_scenario(struct walk *walk, int walks, size_t *steps)
{
    int broken = 0;

    for (int i = 0; i < walks; i++) {
        walk->dice = 0x9e3779b97f4a7c15u * (uint64_t)(i + 1);
        const char *rule = take_walk(walk);
        *steps += (size_t)walk->length;
        if (rule && broken++ == 0)
            tell_walk(walk, rule);
    }
    return broken;
}

/* -------------------------------------------------------------------- program */

struct options {
    int walks; /* 0: all orders */
    int depth;
    double seconds;
    size_t memory;
    bool by_hash;
    const char *name;
};

struct totals {
    size_t states, transitions;
    double orders, mistaken;
    int depth, broken, stopped;
};

struct room {
    struct world *world;
    struct frozen *frozen[2];
    unsigned char *packed;
};

static void explore(const struct explored *game, const struct scenario *scenario, struct room room,
                    const struct options *options, double share, struct totals *totals)
{
    double begun = now();
    struct search s = {
        .game = game,
        .scenario = scenario,
        .world = room.world,
        .before = room.frozen[0],
        .after = room.frozen[1],
        .packed = room.packed,
        .acts = options->depth,
        .until = begun + share,
        .memory = options->memory,
    };
    if (options->by_hash)
        seen_open_by_hash(&s.seen, options->memory / HASHES_SHARE);
    search_all(&s);
    totals->orders += tell(&s, now() - begun);
    for (int i = 0; i < s.broken; i++)
        tell_path(&s, &s.findings[i]);
    totals->broken += s.broken;
    totals->mistaken += seen_mistaken(&s.seen);
    totals->states += s.seen.count;
    totals->transitions += s.transitions;
    totals->stopped += s.stopped != NULL;
    if (s.depth > totals->depth)
        totals->depth = s.depth;
    clear_search(&s);
}

/* Those that are too large for all together come last. */
static bool is_wanted(const struct explored *game, int number, const struct options *options)
{
    if (!options->name)
        return options->walks > 0 || number < game->scenario_count - game->deep_count;
    return strstr(game->name(game->scenario(number)), options->name);
}

static void tell_totals(const struct totals *totals, const struct options *options)
{
    struct rusage usage = {0};

    getrusage(RUSAGE_SELF, &usage);
    printf("total: %zu states, %zu transitions, ", totals->states, totals->transitions);
    if (!options->by_hash)
        printf("%.2e orders, ", totals->orders);
    printf("depth %d, %d acts from outside; %d stopped early, %d broken\n", totals->depth,
           options->depth, totals->stopped, totals->broken);
    printf("two worlds were mistaken for one with a probability of %.1e; %ld MiB at the peak\n",
           totals->mistaken, usage.ru_maxrss / 1024);
}

static int explore_all(const struct explored *game, struct room room, const struct options *options)
{
    struct totals totals = {0};
    double until = now() + options->seconds;
    int left = 0;

    for (int i = 0; i < game->scenario_count; i++)
        left += is_wanted(game, i, options);
    for (int i = 0; i < game->scenario_count; i++) {
        if (!is_wanted(game, i, options))
            continue;
        explore(game, game->scenario(i), room, options, (until - now()) / left, &totals);
        left--;
    }
    tell_totals(&totals, options);
    bool saw_all = !options->name && options->depth >= 2 && totals.stopped == 0;
    int missed = game->report ? game->report() : 0;
    return totals.broken || (saw_all && missed) ? 1 : 0;
}

static int walk_all(const struct explored *game, struct room room, const struct options *options)
{
    size_t steps = 0;
    int broken = 0;

    for (int i = 0; i < game->scenario_count; i++) {
        struct walk walk = {
            .game = game,
            .scenario = game->scenario(i),
            .world = room.world,
            .frozen = room.frozen[0],
            .acts = options->depth,
        };
        if (is_wanted(game, i, options))
            broken += walk_scenario(&walk, options->walks, &steps);
    }
    printf("total: %zu steps in walks with %d acts from outside each; %d broken\n", steps,
           options->depth, broken);
    return broken ? 1 : 0;
}

static int list_scenarios(const struct explored *game)
{
    for (int i = 0; i < game->scenario_count; i++)
        puts(game->name(game->scenario(i)));
    return 0;
}

static int run(const struct explored *game, const struct options *options)
{
    struct room room = {
        .world = get_room(game->world_size),
        .frozen = {get_room(game->frozen_size + 8), get_room(game->frozen_size + 8)},
        .packed = get_room(PACKED_MAX(game->frozen_size)),
    };
    int status =
        options->walks > 0 ? walk_all(game, room, options) : explore_all(game, room, options);
    free(room.world);
    free(room.frozen[0]);
    free(room.frozen[1]);
    free(room.packed);
    return status;
}

static int usage(const char *program, const struct explored *game)
{
    fprintf(stderr, "usage: %s [-d DEPTH] [-s SECONDS] [-m MIB] [-H] [-w WALKS] [-l]%s [NAME]\n",
            program, game->print_tables ? " [-t]" : "");
    return 2;
}

int explore_main(int argc, char **argv, const struct explored *game)
{
    struct options options = {.depth = 2, .seconds = 20, .memory = (size_t)1 << 30};

    for (int c; (c = getopt(argc, argv, "d:s:m:Hw:lt")) != -1;) {
        if (c == 'd') {
            options.depth = (int)strtol(optarg, NULL, 10);
        } else if (c == 's') {
            options.seconds = strtod(optarg, NULL);
        } else if (c == 'm') {
            options.memory = (size_t)strtoul(optarg, NULL, 10) << 20;
        } else if (c == 'H') {
            options.by_hash = true;
        } else if (c == 'w') {
            options.walks = (int)strtol(optarg, NULL, 10);
        } else if (c == 'l') {
            return list_scenarios(game);
        } else if (c == 't' && game->print_tables) {
            game->print_tables();
            return 0;
        } else {
            return usage(argv[0], game);
        }
    }
    options.name = argv[optind];
    return run(game, &options);
}
