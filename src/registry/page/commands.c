/* Writes the commands of each client, with the name by which the visitor knows this tarn. */
#include "registry/page/commands.h"

#include <stdio.h>
#include "registry/page/html.h"

/* In a command, %H is the name of this tarn, %I the image, %S the scheme, %T what Podman and skopeo
 * need without TLS, with a space behind it. */
struct command {
    const char *client, *text;
};

static const struct command pulling[] = {
    {"Docker", "docker pull %H/%I"},
    {"Podman", "podman pull %T%H/%I"},
    {"containerd", "nerdctl pull %H/%I"},
    {"Kubernetes", "image: %H/%I"},
    {"skopeo", "skopeo copy %Tdocker://%H/%I oci:image"},
    {"Helm", "helm pull oci://%H/UPSTREAM/CHART"},
    {"All images of a node", "tarn mirror install --url %S://%H"},
};

static const struct command for_image[] = {
    {"Pull it", "docker pull %H/%I"},
    {"Keep it warm", "tarn warm %I"},
    {"Remove it from the cache", "tarn rm %I"},
};

static void write_command(const struct view *view, const struct command *command, const char *image,
                          struct buffer *out) {
    const bool is_tls = view->page->settings.is_tls;
    buffer_append_string(out, "<div class=\"client\"><h3>");
    buffer_append_string(out, command->client);
    buffer_printf(out,
                  "</h3><button class=\"copy\" type=\"button\" aria-label=\"Copy: %s\">Copy"
                  "</button><pre tabindex=\"0\"><code>",
                  command->client);
    for (const char *c = command->text; *c; c++) {
        if (*c != '%')
            buffer_append(out, c, 1);
        else if (*++c == 'H')
            buffer_append_string(out, HTML_HOST);
        else if (*c == 'I')
            html_text(out, image);
        else if (*c == 'S')
            buffer_printf(out, "<span data-scheme>%s</span>", is_tls ? "https" : "http");
        else if (*c == 'T' && !is_tls)
            buffer_append_string(out, *command->client == 'P'
                                          ? "<span data-plain>--tls-verify=false </span>"
                                          : "<span data-plain>--src-tls-verify=false </span>");
    }
    buffer_append_string(out, "</code></pre></div>\n");
}

/* The image used last that has a tag, else one of the default upstream. */
static void find_example(const struct view *view, char *out, size_t size) {
    const struct catalog *catalog = view->catalog;
    for (size_t i = 0; catalog && i < catalog->count; i++) {
        const struct catalog_image *image = &catalog->images[i];
        if (image->tags_here && view_may_see(view, image->host, image->path)) {
            view_image_name(image, out, size);
            return;
        }
    }
    const struct upstream *upstream = upstreams_default(view->visitor->upstreams);
    if (!upstream)
        upstream = upstreams_next(view->visitor->upstreams, NULL);
    if (upstream && upstream_is_docker_hub(upstream))
        snprintf(out, size, "docker.io/library/alpine:latest");
    else
        snprintf(out, size, "%s/NAME:TAG", upstream ? upstream_name(upstream) : "docker.io");
}

void commands_write(const struct view *view, struct buffer *out) {
    char image[VIEW_IMAGE_NAME];
    find_example(view, image, sizeof image);
    for (size_t i = 0; i < sizeof pulling / sizeof *pulling; i++)
        write_command(view, &pulling[i], image, out);
}

void commands_write_image(const struct view *view, const char *image, struct buffer *out) {
    for (size_t i = 0; i < sizeof for_image / sizeof *for_image; i++)
        write_command(view, &for_image[i], image, out);
}
