// What the chat transport of the Vercel AI SDK posts, as the request of a provider: its UI messages become messages of the provider's
// format. Pure.
//
//      {"id":chat, "messages":[{"id","role","parts":[…]},…], "trigger":…, "messageId":…, "model":…, …}
//
// Whatever else the body has (model, temperature, tools, …) is the provider's and goes along as it is. Of the parts, text, files and
// calls of tools with their outputs become messages; reasoning, sources and data parts are for people. An assistant's message is one turn
// per step: its calls are followed by their results.
#ifndef SEGUE_LLM_UI_REQUEST_H
#define SEGUE_LLM_UI_REQUEST_H

#include "buf.h"
#include "llm_event.h"
#include "problem.h"

struct jr;

// Appends the request, for a streamed answer. ERR_BAD_REQUEST with its sentence: what is no UI message, or cannot be said in this format.
int llm_ui_request(struct buf *out, enum llm_api api, const struct jr *body, struct problem *p);

// The id of the message that the answer goes on with: the last one, where it is the assistant's. Else empty.
struct span llm_ui_continued(const struct jr *body);

#endif
