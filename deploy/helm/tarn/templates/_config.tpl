{{/* tarn's configuration: the values' own, and what the chart knows. */}}

{{/* Whether the chart can add to the configuration: not to one that is there already, and not to one of
the CNCF registry, which has other keys. What the chart knows is then in TARN_FALLBACK_ variables. */}}
{{- define "tarn.isOwnConfig" -}}
{{- if not (or .Values.existingConfigMap (hasKey .Values.config "proxy") (hasKey .Values.config "version")) -}}true{{- end -}}
{{- end -}}

{{/* A size of Kubernetes ("200Gi") as 90 % of it in the words of tarn ("184320MiB"). */}}
{{- define "tarn.mostOf" -}}
{{- $units := dict "" 1.0 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 -}}
{{- $number := regexFind "^[0-9]+([.][0-9]+)?" . -}}
{{- $unit := trimPrefix $number . -}}
{{- $mebibytes := divf (mulf (float64 $number) (get $units $unit) 0.9) 1048576.0 | floor | int64 -}}
{{- printf "%dMiB" (max $mebibytes 1) -}}
{{- end -}}

{{- define "tarn.maxSize" -}}
{{- $storage := include "tarn.storage" . -}}
{{- if or (eq $storage "claims") (eq $storage "claim") -}}
{{- include "tarn.mostOf" .Values.storage.size -}}
{{- else if and (eq $storage "emptyDir") .Values.storage.emptyDir.sizeLimit -}}
{{- include "tarn.mostOf" .Values.storage.emptyDir.sizeLimit -}}
{{- end -}}
{{- end -}}

{{/* What the chart knows of the configuration, as YAML. */}}
{{- define "tarn.known" -}}
listen: ":5000"
metrics_listen: ":5001"
root: /var/lib/tarn/cache
{{- with include "tarn.maxSize" . }}
max_size: {{ . }}
{{- end }}
{{- if include "tarn.clientsSecret" . }}
clients:
  htpasswd: /etc/tarn/clients/htpasswd
{{- end }}
{{- if .Values.replication.enabled }}
replicas:
  dns: {{ include "tarn.fullname" . }}-replicas.{{ .Release.Namespace }}.svc
  port: {{ include "tarn.port" . }}
  secret_file: /etc/tarn/replicas/secrets
  {{- if .Values.tls.certManager.enabled }}
  tls:
    ca: /etc/tarn/tls/ca.crt
    name: {{ first (concat .Values.tls.certManager.dnsNames (list (include "tarn.fullname" .))) }}
  {{- end }}
{{- end }}
{{- if include "tarn.tlsSecret" . }}
tls:
  certificate: /etc/tarn/tls/tls.crt
  key: /etc/tarn/tls/tls.key
{{- end }}
{{- end -}}

{{- define "tarn.config" -}}
{{- if include "tarn.isOwnConfig" . -}}
{{- toYaml (merge (deepCopy .Values.config) (include "tarn.known" . | fromYaml)) -}}
{{- else -}}
{{- toYaml .Values.config -}}
{{- end -}}
{{- end -}}

{{/* Variables for a configuration that the chart cannot add to. */}}
{{- define "tarn.fallbacks" -}}
{{- if not (include "tarn.isOwnConfig" .) -}}
{{- $known := include "tarn.known" . | fromYaml -}}
{{- range $key, $value := $known }}
{{- if kindIs "map" $value }}
{{- range $inner, $text := $value }}
{{- if kindIs "map" $text }}
{{- range $last, $word := $text }}
- name: TARN_FALLBACK_{{ printf "%s_%s_%s" $key $inner $last | upper }}
  value: {{ $word | quote }}
{{- end }}
{{- else }}
- name: TARN_FALLBACK_{{ printf "%s_%s" $key $inner | upper }}
  value: {{ $text | quote }}
{{- end }}
{{- end }}
{{- else }}
- name: TARN_FALLBACK_{{ upper $key }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* A duration of tarn ("1m30s") in whole seconds. */}}
{{- define "tarn.seconds" -}}
{{- $units := dict "ms" 0 "s" 1 "m" 60 "h" 3600 "d" 86400 -}}
{{- $total := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" (toString .) -1 -}}
{{- $number := regexFind "^[0-9]+" . -}}
{{- $total = add $total (mul (int64 $number) (get $units (trimPrefix $number .))) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* (list VALUE PORT): the port of the first address in `listen` or `metrics_listen`. */}}
{{- define "tarn.portOf" -}}
{{- $value := index . 0 -}}
{{- if kindIs "slice" $value -}}{{- $value = first $value -}}{{- end -}}
{{- if $value -}}
{{- regexFind "[0-9]+$" (toString (first (splitList "," (toString $value)))) -}}
{{- else -}}
{{- index . 1 -}}
{{- end -}}
{{- end -}}

{{/* A configuration of the CNCF registry has its addresses under `http`. */}}
{{- define "tarn.port" -}}
{{- include "tarn.portOf" (list (.Values.config.listen | default (dig "http" "addr" "" .Values.config)) "5000") -}}
{{- end -}}

{{- define "tarn.metricsPort" -}}
{{- include "tarn.portOf" (list (.Values.config.metrics_listen | default (dig "http" "debug" "addr" "" .Values.config)) "5001") -}}
{{- end -}}

{{/* The configuration of `tarn keep`: which registries there are, who may read, and what is kept. */}}
{{- define "tarn.keep.config" -}}
{{- $config := omit .Values.config "listen" "metrics_listen" "root" "max_size" "warm" "tls" "path_prefix" "bucket" "replicas" -}}
{{- $known := pick (include "tarn.known" . | fromYaml) "clients" -}}
{{- $config = merge (deepCopy $config) $known -}}
{{- if hasKey $config "clients" -}}
{{- $_ := set $config "clients" (omit $config.clients "ca") -}}
{{- if not $config.clients -}}{{- $config = omit $config "clients" -}}{{- end -}}
{{- end -}}
{{- $keep := dict "listen" ":8080" "namespace" (include "tarn.keep.namespace" .) -}}
{{- if .Values.keep.machines -}}{{- $_ := set $keep "machines" "/etc/cachemachine" -}}{{- end -}}
{{- $_ := set $config "keep" (merge (deepCopy .Values.keep.config) $keep) -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The part of the configuration that a node needs: which registries there are. Files that the cache
has are not there. */}}
{{- define "tarn.nodes.config" -}}
{{- $config := pick .Values.config "log" -}}
{{- if .Values.config.upstreams -}}
{{- $upstreams := list -}}
{{- range .Values.config.upstreams -}}
{{- $upstreams = append $upstreams (pick . "host" "url" "prefix" "default" "repositories") -}}
{{- end -}}
{{- $config = merge $config (dict "upstreams" $upstreams) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}
