// What the official SDKs ask beside completions (a list of models, the cancellation of a background response, a count of tokens): asked of
// the provider at once, its answer passed on as it is. Nothing of it is stored.
#ifndef SEGUE_API_LLM_PASS_H
#define SEGUE_API_LLM_PASS_H

#include "http.h"

struct llm_pass;

// `rest`: behind "/apps/<app>/llm/<provider>/". Answers, if only that there is no such path.
void llm_pass(struct request *r, struct span provider, struct span rest);
void llm_pass_drain(struct llm_pass *pass);
// The request is done: the call ends with it.
void llm_pass_free(struct llm_pass *pass);

#endif
