#include "llm_kind.h"

#include <assert.h>

static const char *const api_names[] = {[LLM_CHAT] = "chat", [LLM_RESPONSES] = "responses", [LLM_MESSAGES] = "messages"};

const char *llm_api_name(enum llm_api api)
{
    assert(api >= LLM_CHAT && api <= LLM_MESSAGES);
    return api_names[api];
}

bool llm_api_parse(enum llm_api *out, struct span name)
{
    for (int api = LLM_CHAT; api <= LLM_MESSAGES; api++) {
        if (!span_is(name, api_names[api])) continue;
        *out = (enum llm_api)api;
        return true;
    }
    return false;
}

static const char *const form_names[] = {
    [LLM_FORM_TEXT] = "text", [LLM_FORM_MESSAGES] = "messages", [LLM_FORM_RAW] = "raw", [LLM_FORM_UI] = "ui"};

const char *llm_form_name(enum llm_form form)
{
    assert(form >= LLM_FORM_TEXT && form <= LLM_FORM_UI);
    return form_names[form];
}

bool llm_form_parse(enum llm_form *out, struct span name)
{
    for (int form = LLM_FORM_TEXT; form <= LLM_FORM_UI; form++) {
        if (!span_is(name, form_names[form])) continue;
        *out = (enum llm_form)form;
        return true;
    }
    return false;
}
