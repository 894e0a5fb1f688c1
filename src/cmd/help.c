#include "cmd/help.h"

#include <string.h>
#include "cmd/commands.h"
#include "config/config.h"

static const struct topic {
    const char *name, *arguments, *summary;
    const char *text;  /* whole lines; NULL: the summary says it all */
    bool takes_config; /* every option of the configuration is a flag of it */
} topics[] = {
    {"serve", "[OPTION…]", "serve images, fetching what is not cached yet",
     "Without any option: well-known public registries and Google Artifact Registry on\n"
     "127.0.0.1:5000. SIGTERM stops it after the requests in progress.\n",
     true},
    {"warm", "IMAGE… [--platform OS/ARCH[/VARIANT]] [--json] [--config FILE | --root DIR]",
     "pull images into the running tarn before anyone asks",
     "Finds that tarn by its root (--root, or the configuration's) and must run as its user.\n"
     "Without --platform all platforms; several with commas or by repeating it. On a terminal\n"
     "bars show how far it is, elsewhere (and with --json) lines of JSON. Exit 1 when an image\n"
     "failed. Ctrl-C ends the command, not the transfers already under way.\n",
     false},
    {"ls", "[NAME…] [--json] [--config FILE | --root DIR]", "list the images in the cache",
     "One line an image: its name, its digest, how much of it is held, and when any of it was\n"
     "last used. The images of an index are listed as one. Without NAME all; NAME as for\n"
     "tarn rm. Works on a running tarn and on a stopped one; looking is no use of an image.\n",
     false},
    {"du", "[--json] [--config FILE | --root DIR]", "show how much is in the cache, and whose",
     "A blob that repositories of several upstreams hold counts for each of them, and once in\n"
     "the total. Unfinished is what interrupted transfers left, to be continued.\n",
     false},
    {"rm", "NAME… [--json] [--config FILE | --root DIR]", "remove images from the cache",
     "NAME is UPSTREAM/REPOSITORY:TAG, UPSTREAM/REPOSITORY@DIGEST, or UPSTREAM/REPOSITORY for\n"
     "all of a repository. Each part may hold * (within a part of the path), ** (across parts)\n"
     "and ?, as in 'ghcr.io/org/**'. What another tag or repository uses stays; the next pull\n"
     "of what was removed fetches it again. Exit 1 when nothing has that name.\n",
     false},
    {"prune",
     "[--older-than DURATION] [--to-size SIZE] [--dry-run] [--json] "
     "[--config FILE | --root DIR]",
     "make the cache smaller, least recently used first",
     "Deletes what was not used for DURATION (30d, 12h), then what was not used for longest\n"
     "until SIZE (50GiB) is left; one of both has to be said. Never what is being read or\n"
     "fetched, or is pinned: of a stopped tarn the pins are known by its configuration, not by\n"
     "--root alone. --dry-run only tells. Exit 1 when SIZE could not be reached.\n",
     false},
    {"verify", "[--repair] [--rate SIZE] [--json] [--config FILE | --root DIR]",
     "hash all that is in the cache",
     "Prints the digests whose bytes are wrong, one a line. With --repair they are set aside in\n"
     "ROOT/bad, and fetched again when asked for. What cannot be read is named on standard\n"
     "error, and stays. Exit 1 if there is any of either. Reads at most SIZE a second: 64MiB of\n"
     "a running tarn, as fast as it comes of a stopped one; 0 is as fast as it comes.\n",
     false},
    {"check-config", "FILE", "check a configuration file",
     "Prints FILE: ok, or every mistake with its line and what would be right (exit 1).\n"
     "The environment's TARN_… variables are left aside.\n",
     false},
    {"whoami", "[--json] [HOST]", "show which Google credentials are used, and why",
     "Says which source was found, for which account, until when, and what was looked at\n"
     "before. With HOST also whether that registry accepts it.\n",
     false},
    {"print-access-token", "[--impersonate-service-account=ACCOUNT] [--scopes=A,B]",
     "print a Google access token", NULL, false},
    {"configure-docker", "[--registries=A,B] [--dry-run]",
     "make Docker use tarn's credential helper",
     "Sets credHelpers in Docker's config.json and leaves everything else in it alone.\n", false},
    {"kubelet-credential-provider", "", "answer the kubelet's request for credentials",
     "Reads a CredentialProviderRequest (v1, v1beta1) from standard input. The kubelet runs it.\n",
     false},
    {"docker-credential", "get|store|erase|list|version", "answer Docker's request for credentials",
     "Docker runs it by the name docker-credential-tarn, with a host on standard input.\n", false},
    {"version", "", "print the version", NULL, false},
    {"help", "[COMMAND]", "show this, or the help of a command", NULL, false},
};
enum { TOPICS = sizeof topics / sizeof *topics };

void help_overview(FILE *out) {
    fputs("tarn is a pull-through cache for container images.\n\n"
          "Usage: tarn COMMAND [ARGUMENT…]\n\n",
          out);
    for (size_t i = 0; i < TOPICS; i++)
        fprintf(out, "  %-28s %s\n", topics[i].name, topics[i].summary);
    fputs("\ntarn COMMAND --help shows the help of one. Manual pages: tarn(1), tarn.yaml(5).\n",
          out);
}

static void print_option(FILE *out, const struct config_option *option) {
    char flag[CONFIG_NAME_SIZE], variable[CONFIG_NAME_SIZE];
    config_option_flag(option, flag);
    config_option_variable(option, variable);
    const char *placeholder = config_option_placeholder(option);
    if (option->type == CONFIG_BOOLEAN)
        fprintf(out, "  %s[=%s]\n", flag, placeholder);
    else
        fprintf(out, "  %s %s%s\n", flag, placeholder, option->type == CONFIG_LIST ? "[,…]" : "");
    fprintf(out, "        %s", option->help);
    for (size_t i = 0; option->choices && option->choices[i]; i++)
        fprintf(out, "%s%s", i ? ", " : ": ", option->choices[i]);
    fprintf(out, "\n        %s; default: %s\n", variable,
            option->standard_words ? option->standard_words : option->standard);
}

int help_command(const char *name, FILE *out) {
    const struct topic *topic = NULL;
    for (size_t i = 0; i < TOPICS && !topic; i++) {
        if (strcmp(name, topics[i].name) == 0)
            topic = &topics[i];
    }
    if (!topic) {
        fprintf(stderr, "tarn: there is no command %s (see tarn --help)\n", name);
        return 2;
    }
    fprintf(out, "Usage: tarn %s%s%s\n\n%c%s.\n", topic->name, *topic->arguments ? " " : "",
            topic->arguments, topic->summary[0] - 'a' + 'A', topic->summary + 1);
    if (topic->text)
        fprintf(out, "\n%s", topic->text);
    if (topic->takes_config) {
        fputs("\nEach option is a variable too, and nearly all are keys of the configuration file, "
              "which\n"
              "can say more (tarn.yaml(5)). A flag outweighs its variable, and that the file.\n\n"
              "  --config FILE\n"
              "        the configuration file\n"
              "        TARN_CONFIG; default: " CONFIG_DEFAULT_FILE ", if it is there\n",
              out);
        for (size_t i = 0; i < config_option_count; i++)
            print_option(out, &config_options[i]);
    }
    /* Help that could not be written is no help. */
    if (fflush(out) != 0 || ferror(out)) {
        perror("tarn: writing the help");
        return 1;
    }
    return 0;
}

int cmd_help(int argc, char **argv) {
    if (argc > 2) {
        fputs("Usage: tarn help [COMMAND]\n", stderr);
        return 2;
    }
    if (argc == 2)
        return help_command(argv[1], stdout);
    help_overview(stdout);
    return 0;
}
