// Every bound in one place. Meeting one is a clear error or backpressure, never growth and never silence.
// PROTOCOL.md's table of limits is checked against this file by `make lint`.
#ifndef SEGUE_LIMITS_H
#define SEGUE_LIMITS_H

#define KIB 1024u
#define MIB (1024u * 1024u)

// HTTP
#define HTTP_TARGET_MAX (32 * KIB)     // bytes of a request target (live queries travel in it)
#define HTTP_HEADERS_MAX (32 * KIB)    // bytes of a request's head, target included beside it
#define HTTP_HEADER_COUNT_MAX 100      // header fields of a request
#define HTTP_TRAILER_MAX (8 * KIB)     // bytes of trailers after a chunked body
#define HTTP_CHUNK_LINE_MAX 256        // bytes of one chunk-size line, extensions included
#define HTTP_REQUEST_MS_MAX 30000      // from a request's first byte to the end of its head
#define HTTP_BODY_IDLE_MS_MAX 60000    // between two pieces of a body
#define HTTP_BODIES_MAX (512 * MIB)    // bytes of collected bodies of all requests at once, shared out among the loops; beyond, a request is asked to come again
#define HTTP_IDLE_MS_MAX 75000         // between two requests on a connection
#define HTTP_SEND_IDLE_MS_MAX 600000   // a reader that takes nothing for this long is cut off
#define HTTP_OUTBOX_MAX (256 * KIB)    // bytes queued for one socket before its producers wait
#define HTTP_READ_MAX (64 * KIB)       // bytes taken from one socket in one turn
#define CONNECTIONS_MAX 20000          // at once; one more is refused with 503
#define HTTP_DISCARD_MAX (64 * KIB)    // bytes of an unwanted body that are read and dropped to keep a connection
#define HTTP_LINGER_BYTES_MAX (8 * MIB) // bytes still taken from a peer after the last reply, so that it sees the reply
#define HTTP_LINGER_MS_MAX 3000        // and for how long
#define HTTP_CODERS_MAX 500            // replies packed piece by piece at a time, some 300 KiB each; others go out as they are
#define HTTP_PACKED_BODY_MAX (256 * KIB) // bytes of a body that is packed at once
#define HTTP_RANGES_MAX 32             // parts of one Range field; more are answered with the whole
#define STOP_MS_MAX 8000               // from the signal to stop until connections are cut

// Apps
#define APPS_MAX 256                   // of one service
#define LOOPS_MAX 16                   // threads that serve apps
#define EGRESS_THREADS_MAX 8           // threads of a loop that help to write what many get at once
#define LOOPS_AUTO_MAX 4               // as many, where nobody says how many
#define LOOP_ANSWER_MS_MAX 1000        // until a loop that does not answer another one is said to be busy
#define APPS_DROPPED_MAX 10000         // between two starts of the service

// Batches
#define BATCH_BYTES_MAX (4 * MIB)      // a batch's JSON body
#define BATCH_OPS_MAX 10000            // operations in a batch
#define BATCH_BLOBS_MAX 256            // blobs that one batch stores
#define BATCH_KEY_MAX 200              // bytes of an idempotency key
#define ENTRY_BYTES_MAX (24 * MIB)     // a journal entry: request and effects
#define GROUP_BYTES_MAX (32 * MIB)     // a journal group; one entry always fits
#define GROUP_ENTRIES_MAX 4096
#define STAMP_AHEAD_MS_MAX 60000       // a stamp further ahead than this is refused
#define FATES_PER_REPLICA_MAX 1024     // settled batches of a replica whose fates are kept
#define FATE_KEY_MS_MAX 86400000       // how long an idempotency key's fate is kept: one day
#define SUBMITTED_MAX 8192             // batches waiting for a turn of an app
#define SUBMITTED_BYTES_MAX (64 * MIB)

// JSON
#define JSON_DEPTH_MAX 64

// SQL and rows
#define SQL_QUERY_MAX (16 * KIB)       // bytes of a select
#define SQL_SCHEMA_MAX (256 * KIB)     // bytes of a schema.sql
#define SQL_DEPTH_MAX 128              // nesting of parentheses and brackets in SQL text
#define SQL_RUN_MAX 2000               // tokens of a query, or of one element of a create table
#define TABLES_MAX 1000
#define COLUMNS_MAX 250                // of one table
#define NAME_MAX_BYTES 63              // of a table, a column, an app
#define ARRAY_ELEMENTS_MAX 4096        // of an array or a set
#define ENUMS_MAX 1000                 // of one schema
#define ENUM_LABELS_MAX 1000           // of one enum
#define CHECKS_MAX 64                  // of one table
#define INDEXES_MAX 64                 // of one table
#define INDEX_COLUMNS_MAX 16           // of one index
#define ROW_BYTES_MAX (1 * MIB)        // an encoded row
#define HORIZON_ROWS_MAX 1000          // rows of commits that go below the horizon in one step
#define PREVIEW_BATCHES_MAX 64         // pending batches of one preview
#define PREVIEW_ROWS_MAX 1000          // rows that one shows
#define HISTORY_VERSIONS_MAX 1000      // versions of a row in one answer
#define SET_WRITERS_MAX 64             // that add an element of a set without having seen each other's addition
#define CASCADE_ROWS_MAX 10000         // rows that go, or change, with those that a batch deletes
#define INDEX_KEY_MAX 400              // bytes of a row's columns in an index
#define QUERY_TABLES_MAX 16            // tables in one from
#define QUERY_PARAMS_MAX 64
#define QUERY_ROWS_MAX 100000          // rows in one result
#define QUERY_SCAN_MAX 1000000         // rows looked at by one query
#define QUERY_MS_MAX 10000             // milliseconds of work of one query, however long its reader takes
#define QUERY_MEMORY_MAX (64 * MIB)    // bytes of groups, sets and arrays held by one query
#define LIKE_STEPS_MAX (32 * MIB)      // bytes compared by one LIKE, those again that it goes back to
#define QUERY_STREAM_TEXT_MAX (1 * MIB) // bytes of a stream that stream_text reads
#define QUERY_RESULT_MAX (64 * MIB)    // bytes of a result that is not streamed
#define QUERY_SORT_MAX (32 * MIB)       // bytes of sort keys held by one query or live view
#define READ_SET_MAX (256 * KIB)       // bytes of what one transaction has read; a set that would be larger is coarsened to whole tables
#define TRANSACTION_ROWS_MAX 1000000   // rows written since a transaction's base, all of which are looked at
#define TRANSACTION_MOVED_MAX 100000   // different ones of these in tables whose indexes it read
#define BRANCHES_MAX 256               // of one app
#define BRANCH_SUBSCRIPTIONS_MAX 64    // to queries on branches, of one app
#define LIVE_RESULT_SCAN_MAX 100000    // rows looked at by a live query on a branch, each time
#define LIVE_RESULT_BYTES_MAX (2 * MIB) // of its result
#define CONNECTION_TRANSACTIONS_MAX 16 // begun on one connection and not ended
#define RESERVATION_CONFLICTS 3        // of one client in a row, before what it read is reserved for its next try
#define RESERVATION_MS_MAX 500         // how long that lasts, and how long a batch waits for it
#define RESERVATIONS_MAX 8             // of one app at once
#define RESERVATION_HELD_MAX 1024      // batches that wait for one; more are not held
#define RESERVATION_HELD_BYTES_MAX (16 * MIB) // and their bytes
#define ROWS_CONFLICTS_MAX 8           // rows that a refused transaction is told of
#define VIEW_RING_BYTES_MAX (1 * MIB)  // changes kept by a live view for readers that are behind
#define VIEW_RING_CHANGES_MAX 4096
#define VIEW_RINGS_BYTES_MAX (256 * MIB) // changes kept by all live views of an app together
#define VIEW_GROUPS_BYTES_MAX (256 * MIB) // groups held by all live views of an app together
#define VIEW_KEYS_BYTES_MAX (512 * MIB) // what ordered live views of an app hold together of their rows, to know where each stands
#define VIEW_FILL_MS_MAX 3000           // milliseconds of work in which a live view looks up at once what it keeps
#define VIEW_DIFFERENCE_MS_MAX 250      // that the difference of two states of a live result may take; past that its readers begin again, and the next may take half
#define VIEW_SPARE_ROWS 16             // rows kept beyond a limited view's window

// Streams
#define STREAM_PATH_MAX 400            // bytes, decoded
#define STREAM_TYPE_MAX 120            // bytes of a content type
#define STREAM_APPEND_MAX (4 * MIB)    // bytes of one append
#define STREAM_READ_MAX (64 * MIB)     // bytes of one catch-up answer
#define STREAM_TAIL_MAX (1 * MIB)      // unsealed bytes of a stream before it is sealed
#define STREAM_QUIET_MS 2000           // a stream without appends this long is sealed
#define STREAM_SEGMENT_BYTES (64 * MIB) // a segment file before the next one is begun
#define STREAM_PRODUCERS_MAX 4096      // idempotent producers of one stream
#define STREAM_PRODUCER_ID_MAX 200     // bytes of a producer's id
#define STREAM_SEQ_MAX 256             // bytes of a writer's own sequence (Stream-Seq)
#define STREAM_FORK_DEPTH_MAX 32       // forks of forks
#define STREAM_SNAPSHOT_MAX (1 * MIB)  // bytes that stand for what was trimmed
#define STREAM_TTL_S_MAX 3153600000ull // a hundred years
#define SEQ_TIME_MS 50                 // how exactly it is known when bytes of a stream came
#define SEQ_TIME_KEPT_MS 2592000000ull // and for how long: 30 days
#define STREAM_PACE_GAP_MS 10000       // a longer wait of a paced follower is shortened to this
#define STREAM_PACE_GAP_MS_MAX 60000   // or to what it asks for
#define LONG_POLL_MS 30000

// Blobs
#define BLOB_BYTES_MAX (16ull * 1024 * 1024 * MIB) // one blob: 16 TiB
#define BLOB_CHUNK_MIN (16 * KIB)
#define BLOB_CHUNK_AVG (64 * KIB)
#define BLOB_CHUNK_MAX (256 * KIB)
#define BLOB_PACK_BYTES (1024ull * MIB) // a pack file before the next one is begun
#define BLOB_WINDOW (1 * MIB)          // bytes of an upload in memory in one stage
#define BLOB_LINK_S_MAX 604800         // how long a signed link of a blob may live: seven days
#define BLOB_PINS_MAX 4096              // blobs that are pinned, or let go, at once
#define CHUNKS_ASK_MAX 4096            // hashes that are asked about at once
#define CHUNKS_BODY_MAX (4 * MIB)      // bytes of chunks that are sent at once, with their heads
#define CHUNKS_KEPT_MS 3600000         // how long chunks are kept for the blob that will name them: an hour
#define CHUNKS_MANIFEST_MAX (24 * MIB) // bytes of a blob's list of chunks
#define CHUNKS_BODIES_MAX 250000       // bodies of chunks of an app that are kept so: a terabyte of full ones
#define UPLOADS_MAX 256                // bodies being stored at once
#define UPLOADS_OPEN_MAX 10000         // resumable uploads of an app that are not done
#define UPLOAD_METADATA_MAX (4 * KIB)  // bytes of an Upload-Metadata field
#define UPLOAD_PROGRESS_BYTES (64 * MIB) // of an upload that arrive before they are made durable
#define UPLOAD_PROGRESS_MS 1000        // and how long fewer may wait for that
#define UPLOAD_PARTS_MAX 256           // parts of one that is made of others
#define UPLOAD_CHECKED_MAX (256 * MIB) // a body with a checksum of its own, all of which is kept or nothing
#define UPLOAD_TTL_MS (7 * 24 * 3600 * 1000ull) // an upload that does not change is kept this long

// Journal
#define JOURNAL_SEGMENT_BYTES (32 * MIB)
#define JOURNAL_LIVE_BYTES_MAX (256ull * MIB) // unrecycled segments that force sealing and an LMDB commit
#define DB_MAP_BYTES (64ull * 1024 * MIB)     // reserved address space of one app
#define DB_DIRTY_BYTES_MAX (16 * MIB)         // estimated dirty pages that force an LMDB commit
#define DB_DIRTY_MS_MAX 50                    // and how long they may wait for one
#define DB_COMMIT_SHARE 8                     // or so many times as long as the last one took, so that commits do not take all the time
#define DB_DIRTY_LONGEST_MS 1000              // but never longer

// Subscriptions
#define SUBSCRIPTIONS_MAX 1000         // on one connection
#define PART_BYTES_MAX (64 * KIB)      // aimed-at size of one message of a commit in parts
#define COMMIT_BYTES_MAX (1 * MIB)     // aimed-at size of a range of several commits
#define FOLLOW_COLUMNS_MAX 16          // stream columns that one query follows
#define FOLLOWED_STREAMS_MAX 10000     // streams in a result that are followed
#define FOLLOWED_STREAMS_APP_MAX 100000 // and in all results of an app
#define FOLLOW_BROUGHT_MAX (8 * MIB)   // bytes of streams whose rows come in one range; with more of them the snapshot is sent anew
#define HEARTBEAT_MS 15000             // silence on a subscription before a comment or ping

// Outboxes of clients
#define OUTBOX_BATCHES_MAX 10000       // batches that wait, and fates that were not seen, of one outbox
#define OUTBOX_BYTES_MAX (64 * MIB)    // of these
#define OUTBOX_TAG_MAX 64              // bytes of a program's own word for a batch
#define OUTBOX_WINDOW 256              // batches on their way at once
#define OUTBOX_WINDOW_BYTES (4 * MIB)  // and their bytes, but for one that is larger

// Subscriptions of workers
#define SUBS_MAX 1000                  // of an app
#define SUB_ID_MAX 128                 // bytes
#define SUB_PATTERN_MAX 400            // bytes
#define SUB_LINKS_MAX 1000             // streams that one names
#define SUB_URL_MAX 2000               // bytes of a webhook's address
#define SUB_TEXT_MAX 1000              // bytes of a description
#define SUB_HOLDER_MAX 128             // bytes of a worker's name
#define SUB_LEASE_MS 30000             // of a lease that is not said
#define SUB_LEASE_MS_MIN 1000
#define SUB_LEASE_MS_MAX 600000        // ten minutes
#define SUB_BODY_MAX (1 * MIB)         // bytes of a request about one
#define SUB_WAKE_STREAMS_MAX 1000      // streams that one wake tells of; the next wake tells of more
#define SUB_PENDING_MAX 10000          // changed streams of one that are kept in memory; beyond, they are looked for again
#define WEBHOOKS_MAX 512               // deliveries under way; more wait
#define WEBHOOK_MS_MAX 30000           // for the whole of one; never longer than the lease
#define WEBHOOK_CONNECT_MS 5000
#define WEBHOOK_ANSWER_MAX (16 * KIB)  // bytes of an answer that are looked at

// WebSocket
#define WS_MESSAGE_MAX (4160 * KIB)    // bytes of one message that comes in: a batch or an append and what is around it
#define WS_FRAGMENTS_MAX 4096          // frames of one message
#define WS_PARTIAL_MAX (256 * MIB)     // unfinished messages of all connections together, shared out among the loops
#define WS_WINDOW 4096                 // batches and appends of a connection on their way; beyond, its socket is not read
#define WS_WINDOW_BYTES (8 * MIB)      // and their bytes
#define WS_RECORDS_MAX 4096            // appends in one binary message
#define WS_HEADER_MAX (4 * KIB)        // the JSON line before the bytes of a binary append
#define WS_TAG_MAX 64                  // bytes of an id that a client gives to a batch or a ping

// Calls outwards
#define CALL_HEADERS_MAX (64 * KIB)    // bytes of an answer's head
#define CALL_REFUSAL_MAX (64 * KIB)    // of the body of an answer that is not 2xx that are kept
#define CALL_ID_MAX 128                // of a peer's request id
#define CALL_RETRY_AFTER_MAX_MS 86400000 // a longer Retry-After is taken for this: a day

// LLM jobs
#define LLM_PROVIDERS_MAX 16           // configured
#define LLM_JOBS_MAX 256               // calls under way; further jobs are queued
#define LLM_QUEUE_MAX 1024             // jobs of one app that wait; one more is refused
#define LLM_REQUEST_MAX (4 * MIB)      // a job's JSON body
#define LLM_EVENT_MAX (2 * MIB)        // a line or an event of a provider's stream: some tell all of a reply again in one
#define LLM_ARGUMENTS_MAX (256 * KIB)  // of a tool call that are told again with its end
#define LLM_PARTS_MAX 512              // parts of one reply
#define LLM_BUFFER_MAX (256 * KIB)     // text that waits for its commit before the provider has to wait
#define LLM_TEXT_MAX (16 * MIB)        // text of one reply
#define LLM_RAW_MAX (64 * MIB)         // one reply as the provider sends it, a few hundred bytes for each token
#define LLM_CONNECT_MS 10000           // to reach the provider
#define LLM_FIRST_MS 120000            // from the request to the first token
#define LLM_IDLE_MS 60000              // between two bytes
#define LLM_TOTAL_MS 3600000           // the whole call
#define LLM_JOB_KEPT_MS 604800000      // how long an ended job can be asked about: seven days
#define LLM_UI_CALLS_MAX 64            // calls of tools in one UI message
#define LLM_UI_INPUT_MAX MIB           // bytes of one's input

#endif
