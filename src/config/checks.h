/* What a string in the configuration may be. Private to config/. */
#ifndef CONFIG_CHECKS_H
#define CONFIG_CHECKS_H

#include <stdbool.h>
#include <stddef.h>
#include "base/text.h"

/* Each is a config_option.check: false leaves in `why` one sentence that says what is wrong and
 * what would be right. */
bool config_check_any(const char *value, char *why, size_t size); /* not empty */
bool config_check_address(const char *value, char *why, size_t size);
bool config_check_host(const char *value, char *why, size_t size);
bool config_check_host_pattern(const char *value, char *why, size_t size);
bool config_check_url(const char *value, char *why, size_t size);
bool config_check_host_and_url(const char *value, char *why, size_t size); /* HOST or HOST=URL */
bool config_check_file(const char *value, char *why, size_t size);         /* can be read */
bool config_check_prefix(const char *value, char *why, size_t size);       /* of repositories */
bool config_check_glob(const char *value, char *why, size_t size);
bool config_check_host_glob(const char *value, char *why, size_t size); /* of hosts */
bool config_check_realm(const char *value, char *why, size_t size);
bool config_check_quotable(const char *value, char *why, size_t size); /* between quotes */
bool config_check_user(const char *value, char *why, size_t size);     /* of our own clients */
bool config_check_image(const char *value, char *why, size_t size);
bool config_check_platform(const char *value, char *why, size_t size);
bool config_check_path(const char *value, char *why, size_t size); /* a prefix of paths */
bool config_is_own_field(struct text name); /* of a response that tarn or HTTP itself sets */
bool config_check_field(const char *value, char *why, size_t size); /* of a response */
bool config_check_bucket_url(const char *value, char *why, size_t size);
bool config_check_bucket_word(const char *value, char *why, size_t size); /* of credentials */
bool config_check_dns(const char *value, char *why, size_t size);
bool config_check_member(const char *value, char *why, size_t size);     /* ADDRESS:PORT */
bool config_check_own_member(const char *value, char *why, size_t size); /* or ADDRESS */
bool config_check_helper(const char *value, char *why, size_t size);

#endif
