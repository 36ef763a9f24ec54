// Errors: one table for the number, the wire code, the HTTP status and the text.
//
// Functions that can fail return an int: 0, or a negative ERR_* from this table. Codes of foreign
// libraries are translated by the one file that knows the library. Outputs are written only on success.
// A wire code never changes its meaning and is never used again.
#ifndef SEGUE_ERR_H
#define SEGUE_ERR_H

// X(NAME, number, wire code, HTTP status, text)
#define ERR_TABLE(X) \
    /* what was sent cannot be understood: nothing is journaled, the same thing may be sent again */ \
    X(BAD_REQUEST, 1, "bad_request", 400, "the request is malformed") \
    X(BAD_JSON, 2, "bad_json", 400, "the body is not valid JSON") \
    X(BAD_SQL, 3, "bad_sql", 400, "the SQL text does not parse") \
    X(UNSUPPORTED_SQL, 4, "unsupported_sql", 400, "this part of SQL is not supported") \
    X(BAD_BATCH, 5, "bad_batch", 400, "the batch is malformed") \
    X(BAD_OFFSET, 6, "bad_offset", 400, "the offset is malformed") \
    X(BAD_CURSOR, 7, "bad_cursor", 400, "the cursor is malformed") \
    X(BAD_DIGEST, 8, "bad_digest", 400, "the SHA-256 in the path is malformed") \
    X(BAD_PARAMETER, 9, "bad_parameter", 400, "a parameter is missing or malformed") \
    X(BAD_UTF8, 10, "bad_utf8", 400, "the text is not valid UTF-8") \
    X(BAD_SCHEMA, 11, "bad_schema", 400, "the schema is not valid") \
    X(UNAUTHENTICATED, 20, "unauthenticated", 401, "a valid key is needed") \
    X(FORBIDDEN, 21, "forbidden", 403, "this identity may not do that") \
    X(NOT_FOUND, 22, "not_found", 404, "there is nothing at this path") \
    X(NO_SUCH_APP, 23, "no_such_app", 404, "no app has this name") \
    X(NO_SUCH_STREAM, 24, "no_such_stream", 404, "no stream has this path") \
    X(NO_SUCH_BLOB, 25, "no_such_blob", 404, "no blob has this digest") \
    X(METHOD_NOT_ALLOWED, 26, "method_not_allowed", 405, "this path does not take that method") \
    X(TIMEOUT, 27, "request_timeout", 408, "the request took too long to arrive") \
    X(GONE, 28, "gone", 410, "this is no longer kept") \
    X(LENGTH_REQUIRED, 29, "length_required", 411, "a Content-Length is needed") \
    X(TOO_LARGE, 30, "too_large", 413, "this is larger than the limit") \
    X(URI_TOO_LONG, 31, "uri_too_long", 414, "the request target is longer than the limit") \
    X(UNSUPPORTED_MEDIA_TYPE, 32, "unsupported_media_type", 415, "this content type is not taken here") \
    X(RANGE_NOT_SATISFIABLE, 33, "range_not_satisfiable", 416, "the range lies outside the content") \
    X(EXPECTATION_FAILED, 34, "expectation_failed", 417, "this expectation cannot be met") \
    X(TOO_MANY, 35, "too_many", 429, "too many of these at once") \
    X(HEADERS_TOO_LARGE, 36, "headers_too_large", 431, "the header fields are larger than the limit") \
    X(BAD_VERSION, 37, "bad_http_version", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here") \
    X(NOT_IMPLEMENTED, 38, "not_implemented", 501, "this is not supported") \
    X(TOO_DEEP, 39, "too_deep", 400, "this is nested deeper than the limit") \
    X(NO_SUCH_JOB, 40, "no_such_job", 404, "no job has this id") \
    X(NO_SUCH_PROVIDER, 41, "no_such_provider", 404, "no provider of this name is configured") \
    X(NO_SUCH_UPLOAD, 42, "no_such_upload", 404, "no upload has this id") \
    X(TUS_VERSION, 43, "tus_version", 412, "only tus 1.0.0 is spoken here") \
    X(UPLOAD_OFFSET, 44, "upload_offset", 409, "the upload is at another offset") \
    X(UPLOAD_TAKEN, 45, "upload_taken", 409, "a newer request goes on with the upload") \
    X(TOKENS_SPENT, 46, "tokens_spent", 429, "the tokens of this day are used up") \
    X(NO_SUCH_SCHEMA, 47, "no_such_schema", 404, "no published schema has this hash") \
    X(NO_FATE, 48, "no_fate", 404, "no batch of this name was settled") \
    X(UPGRADE_REQUIRED, 49, "upgrade_required", 426, "this path speaks another protocol") \
    /* what was understood and is refused: a journaled rejection, final */ \
    X(NO_SUCH_TABLE, 50, "no_such_table", 422, "the schema has no such table") \
    X(NO_SUCH_COLUMN, 51, "no_such_column", 422, "the table has no such column") \
    X(WRONG_TYPE, 52, "wrong_type", 422, "the value does not fit the column's type") \
    X(NOT_NULL, 53, "not_null", 422, "the column must not be null") \
    X(NO_SUCH_REFERENCE, 54, "no_such_reference", 422, "the referenced row does not exist") \
    X(STILL_REFERENCED, 55, "still_referenced", 409, "another row still refers to this one") \
    X(ROW_EXISTS, 56, "row_exists", 409, "a row with this id exists") \
    X(NO_SUCH_ROW, 57, "no_such_row", 409, "no row has this id") \
    X(STREAM_EXISTS, 58, "stream_exists", 409, "a stream with this path and other settings exists") \
    X(STREAM_CLOSED, 59, "stream_closed", 409, "the stream is closed") \
    X(CONTENT_TYPE_MISMATCH, 60, "content_type_mismatch", 409, "the content type is not the stream's") \
    X(STREAM_NOT_FOUND, 61, "stream_not_found", 409, "the batch names a stream that does not exist") \
    X(STREAM_OWNED, 62, "stream_owned", 409, "the stream belongs to a row") \
    X(BLOB_NOT_FOUND, 63, "blob_not_found", 422, "the batch names a blob that is not stored") \
    X(STAMP_AHEAD, 64, "stamp_ahead", 422, "the stamp is too far ahead of the service's clock") \
    X(BASE_AHEAD, 65, "base_ahead", 422, "the base is a seq that has not been given out") \
    X(SCHEMA_NOT_ADDITIVE, 66, "schema_not_additive", 422, "the schema takes away or changes something") \
    X(OFFSET_MISMATCH, 67, "offset_mismatch", 409, "the stream does not end at the expected offset") \
    X(DIGEST_MISMATCH, 68, "digest_mismatch", 422, "the content does not have the promised digest") \
    X(RESERVED_PATH, 69, "reserved_path", 422, "this stream path is reserved for rows") \
    X(BAD_VALUE, 70, "bad_value", 422, "the value is not valid") \
    X(BATCH_TOO_LARGE, 71, "batch_too_large", 422, "the batch's effects are larger than the limit") \
    X(JOB_EXISTS, 72, "job_exists", 409, "a job with this id exists, or one that writes to this stream") \
    X(JOB_ENDED, 73, "job_ended", 409, "the job has ended") \
    X(STREAM_GONE, 74, "stream_gone", 410, "the stream was deleted; forks of it still read it") \
    X(STREAM_TRIMMED, 75, "stream_trimmed", 410, "the offset lies before what the stream still keeps") \
    X(PRODUCER_FENCED, 76, "producer_fenced", 403, "a newer epoch of this producer writes to the stream") \
    X(PRODUCER_GAP, 77, "producer_gap", 409, "the producer's sequence is not the next one") \
    X(PRODUCER_EPOCH, 78, "producer_epoch", 400, "a producer's new epoch begins at sequence 0") \
    X(STREAM_SEQ, 79, "stream_seq", 409, "the writer's sequence does not go up") \
    X(FORK_SOURCE_GONE, 84, "fork_source_gone", 409, "the stream to fork was deleted") \
    X(BAD_FORK, 85, "bad_fork", 400, "the stream cannot be forked there") \
    X(NOT_UNIQUE, 88, "not_unique", 409, "another row has these values") \
    X(CHECK_FAILED, 89, "check_failed", 422, "a check of the table does not hold") \
    X(EMPTY_APPEND, 86, "empty_append", 400, "an append needs data, or closes the stream") \
    X(CONFLICT, 87, "conflict", 409, "something that the transaction had read was changed") \
    X(BRANCH_EXISTS, 138, "branch_exists", 409, "a branch with this name exists") \
    X(NO_SUCH_BRANCH, 139, "no_such_branch", 404, "no branch has this name") \
    /* naming of batches: errors, not fates */ \
    X(COUNTER_GAP, 80, "counter_gap", 409, "the replica's counter is not the next one") \
    X(FATE_EXPIRED, 81, "fate_expired", 410, "the batch was settled, its fate is no longer kept") \
    X(NAME_REUSED, 82, "name_reused", 409, "another batch has had this name") \
    X(REPLICA_BOUND, 83, "replica_bound", 403, "the replica belongs to another identity") \
    /* queries */ \
    X(TOO_OLD, 90, "too_old", 410, "that seq is below the history that is kept") \
    X(SEQ_AHEAD, 91, "seq_ahead", 400, "that seq has not been given out") \
    X(RESULT_TOO_LARGE, 92, "result_too_large", 422, "the result is larger than the limit") \
    X(QUERY_TOO_EXPENSIVE, 93, "query_too_expensive", 422, "the query looks at more rows than the limit") \
    /* how an LLM job failed; in its record, never a reply */ \
    X(PROVIDER_REFUSED, 100, "provider_refused", 502, "the provider refused the request") \
    X(PROVIDER_ERROR, 101, "provider_error", 502, "the provider ended the reply with an error") \
    X(PROVIDER_MALFORMED, 102, "provider_malformed", 502, "the provider's answer cannot be understood") \
    X(PROVIDER_TIMEOUT, 103, "provider_timeout", 504, "the provider took too long") \
    X(PROVIDER_UNREACHABLE, 104, "provider_unreachable", 502, "the provider cannot be reached") \
    X(PROVIDER_CUT, 105, "provider_cut", 502, "the provider's answer broke off") \
    X(RESTARTED, 106, "restarted", 503, "the service was restarted meanwhile") \
    /* faults of the machine: nothing is journaled, or the fate is unknown; the same thing may be sent again */ \
    X(NO_SPACE, 110, "no_space", 507, "the disk is full; reads go on") \
    X(IO, 111, "io_error", 503, "the disk failed") \
    X(NOMEM, 112, "out_of_memory", 503, "memory is exhausted") \
    X(BUSY, 113, "busy", 503, "the service has too much to do") \
    X(CORRUPT, 114, "corrupt", 500, "stored data is damaged") \
    X(CANCELED, 115, "canceled", 503, "the work was called off") \
    X(SHUTTING_DOWN, 116, "shutting_down", 503, "the service is stopping") \
    X(INTERNAL, 117, "internal_error", 500, "the service met a fault of its own") \
    X(FATE_UNKNOWN, 118, "fate_unknown", 503, "the disk failed while this was being stored; send it again with the same name") \
    X(READ_ONLY, 119, "read_only", 503, "the app is open for reading only") \
    X(MAP_FULL, 120, "map_full", 507, "the database has reached its reserved size") \
    X(VERSION, 121, "unknown_format", 500, "the data was written by another version") \
    X(EXISTS, 122, "exists", 409, "it exists already") \
    X(USAGE, 123, "usage", 400, "wrong usage") \
    X(UNREACHABLE, 124, "unreachable", 503, "the peer cannot be reached") \
    X(UPLOAD_LENGTH, 126, "upload_length", 400, "the upload has another length") \
    X(UPLOAD_EXPIRED, 127, "upload_expired", 410, "the upload's time is over") \
    X(UPLOAD_FINAL, 128, "upload_final", 403, "the upload is made of others: no bytes are taken") \
    X(CHUNKS_MISSING, 136, "chunks_missing", 409, "chunks that the blob needs are not stored") \
    X(CHECKSUM, 129, "checksum_mismatch", 460, "the body does not have the checksum that was sent with it") \
    X(UPLOAD_COMPLETE, 137, "upload_complete", 400, "the upload is complete") \
    /* subscriptions of workers */ \
    X(NO_SUCH_SUBSCRIPTION, 130, "no_such_subscription", 404, "no subscription has this id") \
    X(SUBSCRIPTION_EXISTS, 131, "subscription_exists", 409, "a subscription with this id and another configuration exists") \
    X(FENCED, 132, "fenced", 409, "another wake of the subscription is the current one") \
    X(ALREADY_CLAIMED, 133, "already_claimed", 409, "another worker holds the subscription's lease") \
    X(NOTHING_PENDING, 134, "nothing_pending", 409, "there is nothing new for this subscription") \
    X(PRECONDITION_FAILED, 140, "precondition_failed", 412, "the condition of the request does not hold") \
    X(WEBHOOK_URL_REJECTED, 135, "webhook_url_rejected", 400, "this address is not called")

enum err {
    ERR_OK = 0,
#define ERR_ENUM(name, number, wire, status, text) ERR_##name = -(number),
    ERR_TABLE(ERR_ENUM)
#undef ERR_ENUM
};

// The stable code that goes over the wire ("ok" for 0). Never NULL; an unknown number gives "internal_error".
const char *err_wire(int err);

// The English sentence of the table. Never NULL.
const char *err_text(int err);

// The HTTP status (200 for 0, 500 for an unknown number).
int err_status(int err);

// The error with this wire code, ERR_INTERNAL if there is none.
int err_from_wire(const char *wire);

// Translates a positive errno. ENOSPC and EDQUOT become ERR_NO_SPACE, ENOMEM ERR_NOMEM, all else ERR_IO.
int err_from_errno(int errnum);

#endif
