/* The fields of what a decision is made of, as `Record`s have them, and where each is among them. */
#ifndef SEGUE_CASES_H
#define SEGUE_CASES_H

static const char *const CASE[] = {"release", "plan", "request", "facts", "values", "screen", "arms", "holdout", NULL};
static const char *const REQUEST[] = {"decision_id", "user", "surface", "now", "context", "slots", "exclude", NULL};
static const char *const FACTS[] = {"features", "as_of",    "history", "budgets", "killed",
                                    "unread",   "degraded", "fresh",   "shed",    NULL};
static const char *const SCREEN[] = {"left", "word", "drops", "weights", "audiences", NULL};
enum { C_REQUEST = 2, C_FACTS, C_VALUES, C_SCREEN, C_ARMS, C_HOLDOUT };
enum { R_ID, R_USER, R_SURFACE, R_NOW, R_CONTEXT, R_SLOTS, R_EXCLUDE };
enum { F_FEATURES, F_AS_OF, F_HISTORY, F_BUDGETS, F_KILLED, F_UNREAD, F_DEGRADED, F_FRESH, F_SHED };
enum { S_LEFT, S_WORD, S_DROPS, S_WEIGHTS, S_AUDIENCES };

#endif
