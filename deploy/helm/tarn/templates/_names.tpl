{{/* Names, labels and the image. Selectors hold nothing but the release's name. */}}

{{- define "tarn.fullname" -}}
{{- $name := .Values.nameOverride | default "tarn" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (list $ COMPONENT): the labels by which pods are selected. */}}
{{- define "tarn.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: tarn
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* (list $ COMPONENT [LABELS]): the labels of an object. */}}
{{- define "tarn.labels" -}}
{{- $root := index . 0 -}}
{{- $labels := include "tarn.selector" . | fromYaml -}}
{{- $own := dict "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $more := dict -}}
{{- if gt (len .) 2 -}}{{- $more = index . 2 -}}{{- end -}}
{{- toYaml (merge (dict) $labels $own $more $root.Values.commonLabels) -}}
{{- end -}}

{{/* (list $ COMPONENT LABELS): the labels of a pod. They do not change with the chart's version. */}}
{{- define "tarn.podLabels" -}}
{{- $root := index . 0 -}}
{{- toYaml (merge (dict) (include "tarn.selector" . | fromYaml) (index . 2) $root.Values.commonLabels) -}}
{{- end -}}

{{- define "tarn.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tarn.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "tarn.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "tarn.keep.namespace" -}}
{{- .Values.keep.namespace | default .Release.Namespace -}}
{{- end -}}

{{- define "tarn.nodes.namespace" -}}
{{- .Values.nodes.namespace | default .Release.Namespace -}}
{{- end -}}

{{- define "tarn.configMap" -}}
{{- .Values.existingConfigMap | default (include "tarn.fullname" .) -}}
{{- end -}}

{{- define "tarn.clientsSecret" -}}
{{- if .Values.clients.existingSecret -}}
{{- .Values.clients.existingSecret -}}
{{- else if .Values.clients.htpasswd -}}
{{- include "tarn.fullname" . }}-clients
{{- end -}}
{{- end -}}

{{/* The Secret of the replicas, if they share the work. */}}
{{- define "tarn.replicasSecret" -}}
{{- if .Values.replication.enabled -}}
{{- .Values.replication.existingSecret | default (printf "%s-replicas" (include "tarn.fullname" .)) -}}
{{- end -}}
{{- end -}}

{{- define "tarn.tlsSecret" -}}
{{- if .Values.tls.existingSecret -}}
{{- .Values.tls.existingSecret -}}
{{- else if .Values.tls.certManager.enabled -}}
{{- include "tarn.fullname" . }}-tls
{{- end -}}
{{- end -}}

{{/* "HTTPS" if the cache speaks TLS, else "HTTP". */}}
{{- define "tarn.scheme" -}}
{{- $tls := .Values.config.tls | default dict -}}
{{- if or (include "tarn.tlsSecret" .) (and (kindIs "map" $tls) $tls.certificate) -}}HTTPS{{- else -}}HTTP{{- end -}}
{{- end -}}

{{/* claims (of a StatefulSet), claim (of the chart), existingClaim, emptyDir or hostPath. */}}
{{- define "tarn.storage" -}}
{{- with .Values.storage -}}
{{- if .hostPath -}}hostPath
{{- else if .existingClaim -}}existingClaim
{{- else if .emptyDir.enabled -}}emptyDir
{{- else if eq $.Values.kind "StatefulSet" -}}claims
{{- else -}}claim
{{- end -}}
{{- end -}}
{{- end -}}
