{{- define "tarn.nodes.url" -}}
{{- if .Values.nodes.url -}}
{{- .Values.nodes.url -}}
{{- else -}}
http://127.0.0.1:{{ .Values.hostPort | default .Values.service.nodePort }}
{{- end -}}
{{- end -}}

{{/* Which files of the node are meant. */}}
{{- define "tarn.nodes.options" -}}
- --for=containerd
- --destdir=/host
- --url={{ include "tarn.nodes.url" . }}
- --certs-dir={{ .Values.nodes.certsDir }}
{{- with .Values.nodes.ca }}
- --ca={{ . }}
{{- end }}
{{- end -}}

{{/* (list $ NAME): what the containers have in common. */}}
{{- define "tarn.nodes.container" -}}
{{- $root := index . 0 -}}
image: {{ include "tarn.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
env:
  - name: TARN_CONFIG
    value: /etc/tarn/config/tarn.yaml
securityContext:
  {{- include "tarn.nodes.rights" $root | nindent 2 }}
resources:
  {{- toYaml $root.Values.nodes.resources | nindent 2 }}
volumeMounts:
  - name: config
    mountPath: /etc/tarn/config
    readOnly: true
  # containerd's own configuration, which says whether containerd reads the folder.
  - name: containerd
    mountPath: /host{{ dir $root.Values.nodes.certsDir }}
    readOnly: true
  - name: certs
    mountPath: /host{{ $root.Values.nodes.certsDir }}
{{- end -}}

{{/* Root, but with no right beyond the files of a node. */}}
{{- define "tarn.nodes.rights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL], add: [DAC_OVERRIDE]}
{{- end -}}
