{{/* Parts of pods. */}}

{{/* (list $ VOLUME-OF-THE-CONFIGURATION): volumes of what the configuration may name. */}}
{{- define "tarn.volumes" -}}
{{- $root := index . 0 -}}
- name: config
  configMap:
    name: {{ index . 1 }}
{{- with include "tarn.clientsSecret" $root }}
- name: clients
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - key: {{ empty $root.Values.clients.existingSecret | ternary "htpasswd" $root.Values.clients.key }}
        path: htpasswd
{{- end }}
{{- with include "tarn.replicasSecret" $root }}
- name: replicas
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - key: secrets
        path: secrets
{{- end }}
{{- with include "tarn.tlsSecret" $root }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- range $index, $file := $root.Values.files }}
- name: file-{{ $index }}
{{- if $file.secret }}
  secret:
    secretName: {{ $file.secret }}
    defaultMode: 0440
{{- else }}
  configMap:
    name: {{ $file.configMap }}
{{- end }}
{{- end }}
{{- with $root.Values.google.audience }}
- name: google-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          audience: {{ . | quote }}
          expirationSeconds: 3600
          path: token
{{- end }}
{{- if $root.Values.google.credentialConfig }}
- name: google
  configMap:
    name: {{ include "tarn.fullname" $root }}-google
{{- end }}
{{- end -}}

{{- define "tarn.volumeMounts" -}}
- name: config
  mountPath: /etc/tarn/config
  readOnly: true
{{- if include "tarn.clientsSecret" . }}
- name: clients
  mountPath: /etc/tarn/clients
  readOnly: true
{{- end }}
{{- if include "tarn.replicasSecret" . }}
- name: replicas
  mountPath: /etc/tarn/replicas
  readOnly: true
{{- end }}
{{- if include "tarn.tlsSecret" . }}
- name: tls
  mountPath: /etc/tarn/tls
  readOnly: true
{{- end }}
{{- range $index, $file := .Values.files }}
- name: file-{{ $index }}
  mountPath: {{ $file.at }}
  readOnly: true
{{- end }}
{{- if .Values.google.audience }}
- name: google-token
  mountPath: /var/run/secrets/google
  readOnly: true
{{- end }}
{{- if .Values.google.credentialConfig }}
- name: google
  mountPath: /etc/tarn/google
  readOnly: true
{{- end }}
{{- end -}}

{{- define "tarn.env" -}}
- name: TARN_CONFIG
  value: /etc/tarn/config/tarn.yaml
{{- if .Values.google.credentialConfig }}
- name: GOOGLE_APPLICATION_CREDENTIALS
  value: /etc/tarn/google/credentials.json
{{- end }}
{{- end -}}

{{/* (list $ NAME TEXT [NAME TEXT]...): annotations that roll the pods when a configuration changes. What a
ConfigMap of somebody else holds is not known here. */}}
{{- define "tarn.checksums" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.google.credentialConfig }}
checksum/google: {{ $root.Values.google.credentialConfig | sha256sum }}
{{- end }}
{{- if not $root.Values.existingConfigMap }}
checksum/{{ index . 1 }}: {{ index . 2 | sha256sum }}
{{- end }}
{{- if and (gt (len .) 3) (index . 4) }}
checksum/{{ index . 3 }}: {{ index . 4 | sha256sum }}
{{- end }}
{{- end -}}

{{/* (list $ COMPONENT): the default spreads over hosts and zones where that is possible. */}}
{{- define "tarn.spread" -}}
{{- $root := index . 0 -}}
{{- if kindIs "slice" $root.Values.topologySpreadConstraints -}}
{{- toYaml $root.Values.topologySpreadConstraints -}}
{{- else -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "tarn.selector" $ | nindent 6 }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* The pod of the cache, as in `template`. */}}
{{- define "tarn.cache.pod" -}}
{{- $storage := include "tarn.storage" . -}}
metadata:
  labels:
    {{- include "tarn.podLabels" (list . "cache" .Values.podLabels) | nindent 4 }}
  {{- $checksums := include "tarn.checksums" (list . "config" (include "tarn.config" .)) | fromYaml }}
  {{- with merge $checksums .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "tarn.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # tarn's `grace`, and 15 s for what comes before and after it.
  terminationGracePeriodSeconds: {{ add 15 (include "tarn.seconds" (.Values.config.grace | default "30s") | int64) }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- if or .Values.initContainers (eq $storage "hostPath") }}
  initContainers:
    {{- if eq $storage "hostPath" }}
    # The kubelet makes the folder for root.
    - name: folder
      image: {{ include "tarn.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command: [install, -d, -m, "0700", -o, {{ .Values.podSecurityContext.runAsUser | default 65532 | int64 | toString | quote }}, {{ .Values.config.root | default "/var/lib/tarn/cache" }}]
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL], add: [CHOWN, FOWNER]}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: cache
          mountPath: /var/lib/tarn
    {{- end }}
    {{- with .Values.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: tarn
      image: {{ include "tarn.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        {{- include "tarn.env" . | nindent 8 }}
        {{- with include "tarn.fallbacks" . }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: registry
          containerPort: {{ include "tarn.port" . }}
          {{- with .Values.hostPort }}
          hostPort: {{ . }}
          {{- end }}
          protocol: TCP
        - name: metrics
          containerPort: {{ include "tarn.metricsPort" . }}
          protocol: TCP
      startupProbe:
        httpGet: {path: /livez, port: registry, scheme: {{ include "tarn.scheme" . }}}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /livez, port: registry, scheme: {{ include "tarn.scheme" . }}}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: registry, scheme: {{ include "tarn.scheme" . }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 3
      lifecycle:
        # Until no more clients are sent here.
        preStop: {exec: {command: [sleep, "5"]}}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - name: cache
          mountPath: /var/lib/tarn
        {{- include "tarn.volumeMounts" . | nindent 8 }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- if eq $storage "claim" }}
    - name: cache
      persistentVolumeClaim: {claimName: {{ include "tarn.fullname" . }}}
    {{- else if eq $storage "existingClaim" }}
    - name: cache
      persistentVolumeClaim: {claimName: {{ .Values.storage.existingClaim }}}
    {{- else if eq $storage "emptyDir" }}
    - name: cache
      {{- with .Values.storage.emptyDir.sizeLimit }}
      emptyDir: {sizeLimit: {{ . }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- else if eq $storage "hostPath" }}
    - name: cache
      hostPath: {path: {{ .Values.storage.hostPath }}, type: DirectoryOrCreate}
    {{- end }}
    {{- include "tarn.volumes" (list . (include "tarn.configMap" .)) | nindent 4 }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne .Values.kind "DaemonSet" }}
  {{- with include "tarn.spread" (list . "cache") | fromYamlArray }}
  topologySpreadConstraints:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}
