// How a model is spoken to, and in which form its reply is stored: what a job's record says of it, by number.
#ifndef SEGUE_LLM_KIND_H
#define SEGUE_LLM_KIND_H

#include "span.h"

// How a provider is spoken to. Numbers are on the disk.
enum llm_api {
    LLM_CHAT = 1,  // OpenAI's chat/completions, and what is compatible with it
    LLM_RESPONSES, // OpenAI's responses
    LLM_MESSAGES,  // Anthropic's messages
};

const char *llm_api_name(enum llm_api api);                 // "chat", "responses", "messages"
bool llm_api_parse(enum llm_api *out, struct span name);    // false: no such name

// Forms in which a job's reply is stored. Numbers are on the disk.
enum llm_form {
    LLM_FORM_TEXT = 1, // deltas of text and refusals alone
    LLM_FORM_MESSAGES, // every event as a JSON message (PROTOCOL.md, "LLM jobs")
    LLM_FORM_RAW,      // the provider's own bytes, in whole events; of a refusal its body
    LLM_FORM_UI,       // the UI message stream of the Vercel AI SDK
};
const char *llm_form_name(enum llm_form form); // "text", "messages", "raw", "ui"
bool llm_form_parse(enum llm_form *out, struct span name);

#endif
