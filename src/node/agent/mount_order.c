/* Sends and receives orders. */
#include "node/agent/mount_order.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/file.h"
#include "node/agent/descriptors.h"
#include "node/agent/mounting.h"

bool mount_order_send(int supervisor, const struct mount_order *order, struct error *error) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set_errno(error, errno, "making a pipe");
    cleanup_close int reading = ends[0];
    bool sent = descriptors_send(supervisor, order, sizeof *order, &ends[1], 1);
    close(ends[1]);
    if (!sent)
        return error_set(error, ERROR_CLOSED,
                         "the supervisor of the agent is gone; start tarn node again");
    struct error outcome;
    ssize_t length;
    while ((length = read(reading, &outcome, sizeof outcome)) < 0 && errno == EINTR)
        continue;
    if (length != (ssize_t)sizeof outcome)
        return error_set(error, ERROR_CLOSED,
                         "the process that mounts was killed before it was done");
    if (outcome.kind == ERROR_NONE)
        return true;
    outcome.text[sizeof outcome.text - 1] = outcome.code[sizeof outcome.code - 1] = '\0';
    if (error)
        *error = outcome;
    return false;
}

static bool is_terminated(const char *text, size_t size) {
    return memchr(text, '\0', size) != NULL;
}

/* The worker may be in a stranger's hands: its order must not lead to other folders. */
static bool is_order(const struct mount_order *order) {
    if (!is_terminated(order->layer, sizeof order->layer) ||
        !is_terminated(order->folder, sizeof order->folder))
        return false;
    for (const char *at = order->layer; *at; at++)
        if (!((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z')))
            return false;
    bool at_folder = order->kind == MOUNT_ORDER_ATTACH || order->kind == MOUNT_ORDER_DETACH;
    return order->kind <= MOUNT_ORDER_DETACH && (!at_folder || order->folder[0] == '/');
}

int mount_order_receive(int worker, struct mount_order *order, int *outcome) {
    int count = 1;
    *outcome = -1;
    ssize_t length = descriptors_receive(worker, order, sizeof *order, outcome, &count);
    if (length <= 0)
        return 0;
    if (length == (ssize_t)sizeof *order && count == 1 && is_order(order))
        return 1;
    if (count == 1)
        close(*outcome);
    *outcome = -1;
    return -1;
}

void mount_order_perform(const struct mount_order_place *place, const struct mount_order *order,
                         int outcome) {
    struct error error = {0};
    switch (order->kind) {
    case MOUNT_ORDER_READY:
        break;
    case MOUNT_ORDER_IMAGE:
        mounting_image(place, order, &error);
        break;
    case MOUNT_ORDER_NO_IMAGE:
        mounting_no_image(place, order, &error);
        break;
    case MOUNT_ORDER_ATTACH:
        mounting_attach(place, order, &error);
        break;
    case MOUNT_ORDER_DETACH:
        mounting_detach(place, order, &error);
        break;
    }
    file_write_all(outcome, &error, sizeof error,
                   NULL); /* fewer bytes than PIPE_BUF: in one piece */
}

void mount_order_clear(const struct mount_order_place *place, bool own) {
    mounting_clear(place, own);
}
