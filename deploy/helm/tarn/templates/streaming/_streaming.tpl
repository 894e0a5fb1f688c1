{{/* The configuration of `tarn node`: the values' own, and what the chart knows. */}}
{{- define "tarn.streaming.config" -}}
{{- $known := dict "from" (include "tarn.nodes.url" .) "root" "/var/lib/tarn-node" "run" "/run/tarn" "listen" "127.0.0.1:5001" "log" (dict "format" "json") -}}
{{- toYaml (merge (deepCopy .Values.nodes.streaming.config) $known) -}}
{{- end -}}
