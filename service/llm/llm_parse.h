// What the three parsers share: lines become events, events become JSON, parts have their numbers. Between llm_parse*.c alone.
#ifndef SEGUE_LLM_PARSE_H
#define SEGUE_LLM_PARSE_H

#include "json_read.h"
#include "llm_event.h"

// One part, known by the numbers that the provider gives to it.
struct llm_parser_part {
    uint64_t id_hash;       // of a chat's tool call; some providers give all of them one number
    uint32_t outer, inner;  // chat: number of the tool call; responses: output and content index; messages: index of the block
    uint8_t part;           // enum llm_part
    uint8_t family;         // what tells parts of the same numbers apart: enum llm_part, and 4 for summaries
    bool open, has_data;
};

struct llm_parser {
    enum llm_api api;
    void (*event)(void *ctx, const struct llm_event *e);
    void *ctx;
    struct llm_reply reply;
    struct problem problem; // why feeding failed
    struct llm_parser_part parts[LLM_PARTS_MAX];
    uint32_t part_count;
    bool started, usage_told;
    // The event that is being put together.
    struct buf line, data;
    bool begun, after_cr, has_data;
    bool is_error; // its name is "error"
    size_t partial;
};

int llm_parse_chat(struct llm_parser *p, const struct jr *root);
void llm_parse_chat_done(struct llm_parser *p); // [DONE], or the stream ended after a finish reason
int llm_parse_responses(struct llm_parser *p, const struct jr *root);
int llm_parse_messages(struct llm_parser *p, const struct jr *root);

int llm_malformed(struct llm_parser *p, const char *what);
// The reply has failed: tells the open parts' end, and the error.
int llm_failed(struct llm_parser *p, struct span code, struct span message);
void llm_keep_word(char to[LLM_WORD_MAX], struct span word); // cut where a character begins; an empty one changes nothing
void llm_started(struct llm_parser *p, struct span id, struct span model);
void llm_usage_told(struct llm_parser *p, const struct llm_usage *usage);
// Ends the open parts, tells usage and finish.
void llm_finished(struct llm_parser *p, enum llm_finish finish, struct span reason);

// The newest part of this family with these numbers, or NULL.
struct llm_parser_part *llm_part_find(struct llm_parser *p, uint8_t family, uint32_t outer, uint32_t inner);
// NULL: there are too many, and the problem is recorded.
struct llm_parser_part *llm_part_begin(struct llm_parser *p, enum llm_part part, uint8_t family, uint32_t outer, uint32_t inner,
                                       struct span tool_id, struct span tool_name);
void llm_part_delta(struct llm_parser *p, struct llm_parser_part *part, struct span data); // nothing for an empty one
void llm_part_signature(struct llm_parser *p, struct llm_parser_part *part, struct span data);
void llm_part_end(struct llm_parser *p, struct llm_parser_part *part); // nothing for an ended one
void llm_parts_end(struct llm_parser *p);

// A member that is a string, null or absent; the empty span for the last two. ERR_PROVIDER_MALFORMED: it is something else.
int llm_text_of(struct llm_parser *p, const struct jr *object, const char *key, struct span *out);
// A count; -1: there is none.
int64_t llm_count_of(const struct jr *object, const char *key);
int64_t llm_sum(int64_t a, int64_t b); // -1 if one of them is

#endif
