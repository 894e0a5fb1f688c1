/* What arrives on the snapshotter's socket, in pieces: HTTP/2 frames with gRPC calls. */
#include <string.h>
#include "fuzz.h"
#include "node/snapshot/grpc_session.h"

struct world {
    struct grpc_session *session;
    struct grpc_call *waiting; /* a call that is answered later */
};

static enum grpc_status answer(void *context, const struct grpc_request *request) {
    (void)context;
    MUST(request->length <= GRPC_MESSAGE_LIMIT);
    if (request->length % 3 == 2)
        return GRPC_UNKNOWN;
    void *message = grpc_add_message(request->reply, request->length);
    MUST(message);
    if (request->length > 0)
        memcpy(message, request->message, request->length);
    return GRPC_OK;
}

static bool dispatch(void *context, struct grpc_call *call) {
    struct world *world = context;
    if (call->body.length % 7 == 6)
        return false;
    call->next_done = world->waiting;
    world->waiting = call;
    return true;
}

static void answer_all(struct world *world) {
    while (world->waiting) {
        struct grpc_call *call = world->waiting;
        world->waiting = call->next_done;
        grpc_call_run(call, answer, NULL);
        grpc_session_answer(world->session, call);
    }
}

static void drain(struct world *world) {
    size_t length;
    while (grpc_session_send(world->session, &length))
        MUST(length > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct world world = {0};
    atomic_size_t gathered = 0;
    const struct grpc_session_settings settings = {
        .dispatch = dispatch, .context = &world, .gathered = &gathered};
    world.session = grpc_session_new(&settings);
    MUST(world.session);
    /* The connection's preface is not for the fuzzer to find out. */
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    bool is_open = grpc_session_receive(world.session, preface, sizeof preface - 1);
    for (size_t turn = 0; is_open && length > 0; turn++) {
        size_t size = length < 37 ? length : 37;
        is_open = grpc_session_receive(world.session, bytes, size);
        MUST(atomic_load(&gathered) <= GRPC_GATHERED_LIMIT);
        bytes += size;
        length -= size;
        if (turn % 2 == 0)
            answer_all(&world);
        drain(&world);
    }
    grpc_session_abandon(world.session);
    answer_all(&world);
    drain(&world);
    grpc_session_free(world.session);
    MUST(atomic_load(&gathered) == 0);
    return 0;
}
