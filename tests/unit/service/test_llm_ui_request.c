#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka.h needs the four above.
#include <cmocka.h>

#include <string.h>

#include "err.h"
#include "json_read.h"
#include "limits.h"
#include "llm_ui_request.h"

static struct problem problem;

// Quotes are written ' in these tests.
static void unquote(char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\'') *text = '"';
}

static int convert(struct buf *out, enum llm_api api, const char *json)
{
    char text[8192];
    struct jr_tree *tree;
    assert_true(strlen(json) < sizeof text);
    strcpy(text, json);
    unquote(text);
    problem = PROBLEM_NONE;
    assert_int_equal(jr_parse(&tree, SPAN_STR(text), NULL), 0);
    buf_init(out, MIB);
    int err = llm_ui_request(out, api, jr_root(tree), &problem);
    jr_free(tree);
    return err;
}

static void assert_request(enum llm_api api, const char *json, const char *expected)
{
    char text[8192];
    struct buf out;
    strcpy(text, expected);
    unquote(text);
    assert_int_equal(convert(&out, api, json), 0);
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.p, text);
    buf_free(&out);
}

static void assert_refused(enum llm_api api, const char *json, const char *why)
{
    struct buf out;
    assert_int_equal(convert(&out, api, json), ERR_BAD_REQUEST);
    assert_non_null(strstr(problem_text(&problem), why));
    buf_free(&out);
}

#define BODY(messages) "{'id':'chat','model':'m','trigger':'submit-message','messageId':null,'temperature':0.5,'messages':[" messages "]}"
#define HEAD "{'model':'m','temperature':0.5,"
#define CHAT_TAIL ",'stream':true,'stream_options':{'include_usage':true}}"
#define TAIL ",'stream':true}"
#define HELLO "{'id':'1','role':'user','parts':[{'type':'text','text':'Hel'},{'type':'text','text':'lo'}]}"
#define SYSTEM "{'id':'0','role':'system','parts':[{'type':'text','text':'Be brief.'}]}"
#define CALLS                                                                                                                              \
    "{'id':'2','role':'assistant','parts':[{'type':'step-start'},{'type':'reasoning','text':'hm'},{'type':'text','text':'Wait.'},"       \
    "{'type':'tool-tide','toolCallId':'c1','state':'output-available','input':{'z':1,'a':2},'output':{'high':true}},"                     \
    "{'type':'dynamic-tool','toolName':'moon','toolCallId':'c2','state':'output-error','input':{},'errorText':'no moon'},"                \
    "{'type':'tool-sun','toolCallId':'c3','state':'input-available','input':{}},"                                                         \
    "{'type':'step-start'},{'type':'text','text':'High.'}]}"
#define IMAGE "{'id':'3','role':'user','parts':[{'type':'file','mediaType':'image/png','url':'data:image/png;base64,AAAA'},{'type':'text','text':'What?'}]}"
#define PDF "{'id':'3','role':'user','parts':[{'type':'file','mediaType':'application/pdf','filename':'a.pdf','url':'data:application/pdf;base64,BBBB'}]}"

static void text_is_a_message_of_each_format(void **state)
{
    (void)state;
    assert_request(LLM_CHAT, BODY(SYSTEM "," HELLO),
                   HEAD "'messages':[{'role':'system','content':'Be brief.'},{'role':'user','content':'Hello'}]" CHAT_TAIL);
    assert_request(LLM_RESPONSES, BODY(SYSTEM "," HELLO),
                   HEAD "'input':[{'role':'system','content':[{'type':'input_text','text':'Be brief.'}]},"
                        "{'role':'user','content':[{'type':'input_text','text':'Hel'},{'type':'input_text','text':'lo'}]}]" TAIL);
    assert_request(LLM_MESSAGES, BODY(SYSTEM "," HELLO),
                   HEAD "'max_tokens':4096,'system':[{'type':'text','text':'Be brief.'}],"
                        "'messages':[{'role':'user','content':[{'type':'text','text':'Hel'},{'type':'text','text':'lo'}]}]" TAIL);
}

static void a_step_with_calls_is_followed_by_their_results(void **state)
{
    (void)state;
    assert_request(LLM_CHAT, BODY(CALLS),
                   HEAD "'messages':[{'role':'assistant','content':'Wait.','tool_calls':["
                        "{'id':'c1','type':'function','function':{'name':'tide','arguments':'{\\'z\\':1,\\'a\\':2}'}},"
                        "{'id':'c2','type':'function','function':{'name':'moon','arguments':'{}'}}]},"
                        "{'role':'tool','tool_call_id':'c1','content':'{\\'high\\':true}'},"
                        "{'role':'tool','tool_call_id':'c2','content':'no moon'},"
                        "{'role':'assistant','content':'High.'}]" CHAT_TAIL);
    assert_request(LLM_RESPONSES, BODY(CALLS),
                   HEAD "'input':[{'role':'assistant','content':[{'type':'output_text','text':'Wait.'}]},"
                        "{'type':'function_call','call_id':'c1','name':'tide','arguments':'{\\'z\\':1,\\'a\\':2}'},"
                        "{'type':'function_call_output','call_id':'c1','output':'{\\'high\\':true}'},"
                        "{'type':'function_call','call_id':'c2','name':'moon','arguments':'{}'},"
                        "{'type':'function_call_output','call_id':'c2','output':'no moon'},"
                        "{'role':'assistant','content':[{'type':'output_text','text':'High.'}]}]" TAIL);
    assert_request(LLM_MESSAGES, BODY(CALLS),
                   HEAD "'max_tokens':4096,'messages':[{'role':'assistant','content':[{'type':'text','text':'Wait.'},"
                        "{'type':'tool_use','id':'c1','name':'tide','input':{'z':1,'a':2}},"
                        "{'type':'tool_use','id':'c2','name':'moon','input':{}}]},"
                        "{'role':'user','content':[{'type':'tool_result','tool_use_id':'c1','content':'{\\'high\\':true}'},"
                        "{'type':'tool_result','tool_use_id':'c2','content':'no moon','is_error':true}]},"
                        "{'role':'assistant','content':[{'type':'text','text':'High.'}]}]" TAIL);
}

static void images_and_documents_are_said_in_each_formats_words(void **state)
{
    (void)state;
    assert_request(LLM_CHAT, BODY(IMAGE),
                   HEAD "'messages':[{'role':'user','content':[{'type':'image_url','image_url':{'url':'data:image/png;base64,AAAA'}},"
                        "{'type':'text','text':'What?'}]}]" CHAT_TAIL);
    assert_request(LLM_CHAT, BODY(PDF),
                   HEAD "'messages':[{'role':'user','content':[{'type':'file','file':{'filename':'a.pdf','file_data':'data:application/"
                        "pdf;base64,BBBB'}}]}]" CHAT_TAIL);
    assert_request(LLM_RESPONSES, BODY(PDF),
                   HEAD "'input':[{'role':'user','content':[{'type':'input_file','filename':'a.pdf','file_data':'data:application/"
                        "pdf;base64,BBBB'}]}]" TAIL);
    assert_request(LLM_MESSAGES, BODY(IMAGE),
                   HEAD "'max_tokens':4096,'messages':[{'role':'user','content':[{'type':'image','source':{'type':'base64','media_type':"
                        "'image/png','data':'AAAA'}},{'type':'text','text':'What?'}]}]" TAIL);
}

static void what_is_not_ours_goes_along_and_what_is_ours_does_not(void **state)
{
    (void)state;
    assert_request(LLM_MESSAGES,
                   "{'model':'m','max_tokens':9,'stream':false,'system':'mine','tools':[{'name':'tide','input_schema':{'z':1,'a':2}}],"
                   "'messages':[" HELLO "]}",
                   "{'model':'m','max_tokens':9,'tools':[{'name':'tide','input_schema':{'z':1,'a':2}}],'system':'mine','messages':[{'role':"
                   "'user','content':[{'type':'text','text':'Hel'},{'type':'text','text':'lo'}]}]" TAIL);
}

static void what_is_no_ui_message_is_refused(void **state)
{
    (void)state;
    assert_refused(LLM_CHAT, "{'model':'m'}", "UI messages");
    assert_refused(LLM_CHAT, "{'model':'m','messages':[]}", "UI messages");
    assert_refused(LLM_CHAT, "{'messages':[" HELLO "]}", "model");
    assert_refused(LLM_CHAT, BODY("7"), "not an object");
    assert_refused(LLM_CHAT, BODY("{'role':'robot','parts':[]}"), "role");
    assert_refused(LLM_CHAT, BODY("{'role':'user','content':'x'}"), "parts");
    assert_refused(LLM_CHAT, BODY("{'role':'user','parts':[7]}"), "type");
    assert_refused(LLM_CHAT, BODY("{'role':'assistant','parts':[{'type':'tool-','toolCallId':'c','state':'output-available'}]}"), "name");
    assert_refused(LLM_CHAT, BODY("{'role':'user','parts':[{'type':'file','mediaType':'video/mp4','url':'x'}]}"), "neither");
    assert_refused(LLM_CHAT, BODY("{'role':'user','parts':[{'type':'file','mediaType':'image/png'}]}"), "url");
    assert_refused(LLM_CHAT, BODY("{'role':'user','parts':[{'type':'file','mediaType':'image/png','url':'data:,x'}]}"), "base64");
    assert_refused(LLM_CHAT, BODY("{'role':'user','parts':[{'type':'file','mediaType':'application/pdf','url':'http://x'}]}"), "data URL");
}

static void the_message_that_goes_on_is_the_assistants_last_one(void **state)
{
    (void)state;
    struct jr_tree *tree;
    assert_int_equal(jr_parse(&tree, SPAN_LIT("{\"messages\":[{\"id\":\"1\",\"role\":\"user\"},{\"id\":\"2\",\"role\":\"assistant\"}]}"), NULL), 0);
    assert_true(span_is(llm_ui_continued(jr_root(tree)), "2"));
    jr_free(tree);
    assert_int_equal(jr_parse(&tree, SPAN_LIT("{\"messages\":[{\"id\":\"1\",\"role\":\"user\"}]}"), NULL), 0);
    assert_int_equal(llm_ui_continued(jr_root(tree)).n, 0);
    jr_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_a_message_of_each_format),
        cmocka_unit_test(a_step_with_calls_is_followed_by_their_results),
        cmocka_unit_test(images_and_documents_are_said_in_each_formats_words),
        cmocka_unit_test(what_is_not_ours_goes_along_and_what_is_ours_does_not),
        cmocka_unit_test(what_is_no_ui_message_is_refused),
        cmocka_unit_test(the_message_that_goes_on_is_the_assistants_last_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
