# bash completion for tarn(1). What serve takes is asked of tarn itself, so that it is never old.
_tarn() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
    local commands='serve warm ls du rm prune verify check-config whoami print-access-token
        configure-docker kubelet-credential-provider version help'
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$word")
        return
    fi
    case $command in
    help)
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
        ;;
    check-config)
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        ;;
    serve)
        case $before in
        --config | --ca | --tls-certificate | --tls-key | --clients-htpasswd | --root)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            ;;
        --log-level)
            mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- "$word")
            ;;
        --log-format)
            mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word")
            ;;
        --confine)
            mapfile -t COMPREPLY < <(compgen -W 'auto off require' -- "$word")
            ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W \
                "--help $(tarn serve --help 2>/dev/null | grep -oE '^  --[a-z-]+')" -- "$word")
            ;;
        esac
        ;;
    warm)
        case $before in
        --config | --root)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            ;;
        --platform)
            mapfile -t COMPREPLY < <(compgen -W 'linux/amd64 linux/arm64 linux/arm/v7' -- "$word")
            ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W \
                '--platform --json --config --root --help' -- "$word")
            ;;
        esac
        ;;
    ls | du | rm | prune | verify)
        case $before in
        --config | --root)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            ;;
        --older-than)
            mapfile -t COMPREPLY < <(compgen -W '7d 30d 90d' -- "$word")
            ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W \
                "--help $(tarn "$command" --help 2>/dev/null | head -1 | grep -oE -- '--[a-z-]+')" \
                -- "$word")
            ;;
        esac
        ;;
    whoami)
        mapfile -t COMPREPLY < <(compgen -W '--json --help' -- "$word")
        ;;
    print-access-token)
        mapfile -t COMPREPLY < <(compgen -W \
            '--impersonate-service-account= --scopes= --help' -- "$word")
        ;;
    configure-docker)
        mapfile -t COMPREPLY < <(compgen -W '--registries= --dry-run --help' -- "$word")
        ;;
    esac
}
complete -o filenames -o bashdefault -F _tarn tarn
