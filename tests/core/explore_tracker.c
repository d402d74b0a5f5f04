/* SPDX-License-Identifier: MIT */
/*
 * Every order in which things can happen to a tracker; see docs/explorer.md.
 */
#include "explore_tracker_world.h"

static const struct scenario *scenario(int number)
{
    return &scenarios[number];
}

static const char *name(const struct scenario *scenario)
{
    return scenario->name;
}

static const char *broken(const struct world *world)
{
    return world->broken;
}

static void listen(struct world *world, FILE *log)
{
    world->log = log;
}

int main(int argc, char **argv)
{
    const struct explored explored = {
        .world_size = sizeof(struct world),
        .frozen_size = frozen_size,
        .scenario_count = scenario_count,
        .deep_count = deep_count,
        .scenario = scenario,
        .name = name,
        .begin = world_begin,
        .clear = world_clear,
        .freeze = world_freeze,
        .thaw = world_thaw,
        .is_by_itself = world_is_by_itself,
        .steps = world_steps,
        .take = world_do,
        .step_text = world_step_text,
        .judge = world_judge,
        .cut = world_cut,
        .broken = broken,
        .listen = listen,
    };
    int status = explore_main(argc, argv, &explored);
    world_forget_text();
    return status;
}
