/*
 * The commands: one file each, which parses its flags, calls a room and prints. argv[0] is the
 * command's name. Each returns the exit status: 0 done, 1 failed (reason on standard error), 2 bad
 * usage.
 */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

int cmd_serve(int argc, char **argv);
int cmd_warm(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_du(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_prune(int argc, char **argv);
int cmd_verify(int argc, char **argv);
int cmd_check_config(int argc, char **argv);
int cmd_help(int argc, char **argv);
int cmd_version(int argc, char **argv);

int cmd_print_access_token(int argc, char **argv);
int cmd_whoami(int argc, char **argv);
int cmd_configure_docker(int argc, char **argv);
int cmd_kubelet_credential_provider(int argc, char **argv);
int cmd_docker_credential(int argc, char **argv); /* the program docker-credential-tarn */

#endif
