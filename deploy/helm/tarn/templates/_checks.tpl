{{/* Refuses what cannot work, by the names of the values. */}}

{{/* (list PATH VALUE): no secret may stand in a ConfigMap. */}}
{{- define "tarn.checkNoSecret" -}}
{{- $path := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "map" $value -}}
{{- range $key, $inner := $value -}}
{{- $known := list "password" "secret" "secretkey" "accountkey" "private_key" "client_secret" "secret_access_key" -}}
{{- if and (has (lower $key) $known) $inner -}}
{{- fail (printf "%s.%s would stand in a ConfigMap, which many may read: put it into a Secret, mount that by `files`, and name the file" $path $key) -}}
{{- end -}}
{{- include "tarn.checkNoSecret" (list (printf "%s.%s" $path $key) $inner) -}}
{{- end -}}
{{- else if kindIs "slice" $value -}}
{{- range $index, $inner := $value -}}
{{- include "tarn.checkNoSecret" (list (printf "%s[%d]" $path $index) $inner) -}}
{{- end -}}
{{- else if kindIs "string" $value -}}
{{- if regexMatch "://[^/@:]*:[^/@]+@" $value -}}
{{- fail (printf "%s has a password in its URL, which would stand in a ConfigMap: write `credentials` with a `password_file`, and mount the file by `files`" $path) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* (list NAME VALUE): an address that somebody outside the pod can reach. */}}
{{- define "tarn.checkAddress" -}}
{{- $name := index . 0 -}}
{{- $value := index . 1 -}}
{{- if kindIs "slice" $value -}}{{- $value = first $value -}}{{- end -}}
{{- if $value -}}
{{- $first := toString $value | splitList "," | first -}}
{{- if not (regexMatch ":[0-9]+$" $first) -}}
{{- fail (printf "%s: %q does not end with a port, as in \":5000\"" $name $first) -}}
{{- end -}}
{{- if regexMatch "^(127[.]|localhost:|\\[::1\\])" $first -}}
{{- fail (printf "%s: nobody outside the pod reaches %q; write %q, or leave it out" $name $first (regexFind ":[0-9]+$" $first)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.image" -}}
{{- if not .Values.image.repository -}}
{{- fail "image.repository is missing: the name of tarn's own image in a registry that the nodes can read without tarn, for example --set image.repository=registry.example/tarn" -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.config" -}}
{{- if and .Values.existingConfigMap .Values.config -}}
{{- fail "config and existingConfigMap are both given: the configuration comes from one of them" -}}
{{- end -}}
{{- if hasKey .Values.config "keep" -}}
{{- fail "config.keep belongs under keep.config: the controller has a configuration of its own" -}}
{{- end -}}
{{- include "tarn.checkNoSecret" (list "config" .Values.config) -}}
{{- include "tarn.checkAddress" (list "config.listen" .Values.config.listen) -}}
{{- include "tarn.checkAddress" (list "config.metrics_listen" .Values.config.metrics_listen) -}}
{{- include "tarn.checkAddress" (list "config.http.addr" (dig "http" "addr" "" .Values.config)) -}}
{{- include "tarn.checkAddress" (list "config.http.debug.addr" (dig "http" "debug" "addr" "" .Values.config)) -}}
{{- if hasKey .Values.config "root" -}}
{{- $root := .Values.config.root | toString | trimSuffix "/" -}}
{{- if eq $root "/var/lib/tarn" -}}
{{- fail "config.root: /var/lib/tarn is the mount point of the volume; name a folder in it, or leave it out (/var/lib/tarn/cache)" -}}
{{- end -}}
{{- if not (hasPrefix "/var/lib/tarn/" $root) -}}
{{- fail (printf "config.root: %q is not on the volume, which is mounted at /var/lib/tarn; leave it out, or name a folder there" $root) -}}
{{- end -}}
{{- end -}}
{{- with .Values.google.credentialConfig -}}
{{- $document := fromJson . -}}
{{- if hasKey $document "Error" -}}
{{- fail "google.credentialConfig is no JSON" -}}
{{- end -}}
{{- if ne (toString $document.type) "external_account" -}}
{{- fail (printf "google.credentialConfig is of type %q and would stand in a ConfigMap: only external_account holds no secret; put any other into a Secret and mount that by `files`" (toString $document.type)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.clients" -}}
{{- with .Values.clients -}}
{{- if and .htpasswd .existingSecret -}}
{{- fail "clients.htpasswd and clients.existingSecret are both given: the users come from one of them" -}}
{{- end -}}
{{- range $index, $line := splitList "\n" .htpasswd -}}
{{- $line = trim $line -}}
{{- if and $line (not (hasPrefix "#" $line)) (not (regexMatch "^[^:]+:[$]" $line)) -}}
{{- fail (printf "clients.htpasswd: line %d is not NAME:HASH, as `htpasswd -nB NAME` prints it" (add $index 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.tls -}}
{{- if and .existingSecret .certManager.enabled -}}
{{- fail "tls.existingSecret and tls.certManager.enabled are both given: the certificate comes from one of them" -}}
{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef) -}}
{{- fail "tls.certManager.issuerRef is missing: it names the issuer of the certificate" -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range $index, $file := .Values.files -}}
{{- if eq (empty $file.secret) (empty $file.configMap) -}}
{{- fail (printf "files[%d] needs either secret or configMap" $index) -}}
{{- end -}}
{{- if or (hasKey $seen $file.at) (has (trimSuffix "/" $file.at) (list "/etc/tarn" "/etc/tarn/config" "/etc/tarn/clients" "/etc/tarn/replicas" "/etc/tarn/tls" "/etc/tarn/google" "/var/lib/tarn")) -}}
{{- fail (printf "files[%d].at: %s is taken; name another folder, for example /etc/tarn/%s" $index $file.at ($file.secret | default $file.configMap)) -}}
{{- end -}}
{{- $_ := set $seen $file.at true -}}
{{- end -}}
{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- if or (hasKey $.Values.commonLabels $key) (hasKey $.Values.podLabels $key) -}}
{{- fail (printf "commonLabels and podLabels cannot set %s: pods are selected by it" $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.storage" -}}
{{- $kind := .Values.kind -}}
{{- with .Values.storage -}}
{{- $given := list -}}
{{- if .existingClaim -}}{{- $given = append $given "storage.existingClaim" -}}{{- end -}}
{{- if .emptyDir.enabled -}}{{- $given = append $given "storage.emptyDir.enabled" -}}{{- end -}}
{{- if .hostPath -}}{{- $given = append $given "storage.hostPath" -}}{{- end -}}
{{- if gt (len $given) 1 -}}
{{- fail (printf "%s are given: the cache has one place" (join " and " $given)) -}}
{{- end -}}
{{- if and .existingClaim (ne $kind "Deployment") -}}
{{- fail (printf "storage.existingClaim needs kind: Deployment, because each replica of a %s has a volume of its own" $kind) -}}
{{- end -}}
{{- if and .emptyDir.enabled (eq $kind "StatefulSet") -}}
{{- fail "storage.emptyDir.enabled needs kind: Deployment or DaemonSet, because a StatefulSet has a volume for each replica" -}}
{{- end -}}
{{- if and .hostPath (ne $kind "DaemonSet") -}}
{{- fail (printf "storage.hostPath needs kind: DaemonSet, because two pods of a %s on one node would share it" $kind) -}}
{{- end -}}
{{- if and (eq $kind "DaemonSet") (empty $given) -}}
{{- fail "kind: DaemonSet needs storage.hostPath or storage.emptyDir.enabled, because its pods cannot have volumes of their own" -}}
{{- end -}}
{{- end -}}
{{- $storage := include "tarn.storage" . -}}
{{- $replicas := int .Values.replicas -}}
{{- if eq $kind "Deployment" -}}
{{- if and (gt $replicas 1) (ne $storage "emptyDir") -}}
{{- fail (printf "kind: Deployment with a volume and replicas: %d cannot work, because one tarn alone may use a cache's folder; use kind: StatefulSet, or storage.emptyDir.enabled" $replicas) -}}
{{- end -}}
{{- if and (ne $storage "emptyDir") (eq (.Values.updateStrategy.type | default "") "RollingUpdate") -}}
{{- fail "updateStrategy.type: RollingUpdate cannot work for kind: Deployment with a volume, because the new pod would wait for the volume of the old one; leave it out (Recreate)" -}}
{{- end -}}
{{- end -}}
{{- if and (eq $kind "DaemonSet") (ne $replicas 1) -}}
{{- fail "replicas has no meaning for kind: DaemonSet, which runs one pod on each node" -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.replication" -}}
{{- $given := .Values.config.replicas | default dict -}}
{{- if .Values.replication.enabled -}}
{{- if eq .Values.kind "DaemonSet" -}}
{{- fail "replication.enabled needs kind: Deployment or StatefulSet, because a transfer between all nodes would cost more than it saves" -}}
{{- end -}}
{{- if or $given.dns $given.peers $given.secret_file -}}
{{- fail "config.replicas and replication.enabled are both given: replication.enabled writes dns, port and secret_file" -}}
{{- end -}}
{{- if and .Values.tls.existingSecret (not (dig "tls" dict $given)) -}}
{{- fail "replication.enabled with tls.existingSecret needs config.replicas.tls: the file of the certificate's authority and the name in it, for example {ca: /etc/tarn/tls/ca.crt, name: tarn}" -}}
{{- end -}}
{{- else if .Values.replication.existingSecret -}}
{{- fail "replication.existingSecret has no meaning without replication.enabled" -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.service" -}}
{{- with .Values.service -}}
{{- if and .nodePort (eq .type "ClusterIP") -}}
{{- fail "service.nodePort needs service.type: NodePort or LoadBalancer" -}}
{{- end -}}
{{- if and .externalTrafficPolicy (eq .type "ClusterIP") -}}
{{- fail "service.externalTrafficPolicy needs service.type: NodePort or LoadBalancer" -}}
{{- end -}}
{{- if and (eq .clusterIP "None") (ne .type "ClusterIP") -}}
{{- fail (printf "service.clusterIP: None cannot be with service.type: %s" .type) -}}
{{- end -}}
{{- if and (or .loadBalancerClass .loadBalancerSourceRanges) (ne .type "LoadBalancer") -}}
{{- fail (printf "service.%s needs service.type: LoadBalancer" (empty .loadBalancerClass | ternary "loadBalancerSourceRanges" "loadBalancerClass")) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.hostPort (ne .Values.kind "DaemonSet") -}}
{{- fail (printf "hostPort needs kind: DaemonSet, because two pods of a %s cannot have one port of a node" .Values.kind) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.enabled needs ingress.hosts" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs: the gateway that serves the route" -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.podMonitor.enabled and monitoring.serviceMonitor.enabled are both given: every metric would be there twice" -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.keep" -}}
{{- with .Values.keep -}}
{{- if .enabled -}}
{{- if and $.Values.existingConfigMap .config -}}
{{- fail "keep.config and existingConfigMap are both given: write the section `keep` into that ConfigMap" -}}
{{- end -}}
{{- if not (or $.Values.existingConfigMap (include "tarn.isOwnConfig" $)) -}}
{{- fail "keep.enabled needs a configuration of tarn's own, and config is one of the CNCF registry: `tarn convert-config` translates it" -}}
{{- end -}}
{{- if not (or .config .machines $.Values.existingConfigMap) -}}
{{- fail "keep.enabled needs keep.config or keep.machines: what is to be kept on which nodes" -}}
{{- end -}}
{{- include "tarn.checkAddress" (list "keep.config.listen" .config.listen) -}}
{{- if and .config.namespace (ne .config.namespace (include "tarn.keep.namespace" $)) -}}
{{- fail "keep.config.namespace: write keep.namespace, which also decides where the rights are" -}}
{{- end -}}
{{- if and (eq (toString .config.lease) "none") (gt (int .replicas) 1) -}}
{{- fail "keep.config.lease: none needs keep.replicas: 1, because without a lease every replica would create pods" -}}
{{- end -}}
{{- if and .ingress.enabled (not .ingress.hosts) -}}
{{- fail "keep.ingress.enabled needs keep.ingress.hosts" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check.nodes" -}}
{{- with .Values.nodes -}}
{{- if and (or .enabled .streaming.enabled) (not .url) -}}
{{- if not (or $.Values.service.nodePort $.Values.hostPort) -}}
{{- fail "nodes.enabled needs an address that the nodes can reach: service.type: NodePort with service.nodePort, or hostPort, or nodes.url" -}}
{{- end -}}
{{- if eq (include "tarn.scheme" $) "HTTPS" -}}
{{- fail "nodes.enabled with TLS needs nodes.url, because the certificate is not for 127.0.0.1" -}}
{{- end -}}
{{- end -}}
{{- if and .credentialProvider.enabled (not .enabled) -}}
{{- fail "nodes.credentialProvider.enabled needs nodes.enabled: its DaemonSet installs the provider" -}}
{{- end -}}
{{- if and .credentialProvider.perPod (not (or .credentialProvider.audience $.Values.google.audience)) -}}
{{- fail "nodes.credentialProvider.perPod needs nodes.credentialProvider.audience, or google.audience" -}}
{{- end -}}
{{- with .streaming -}}
{{- if and .enabled (not .priorityClassName) -}}
{{- fail "nodes.streaming.priorityClassName is empty: pods of no priority are evicted first, and then containers of the node read errors" -}}
{{- end -}}
{{- if and .enabled (not $.Values.nodes.url) (hasKey .config "from" | not) (not (dig "streaming" "enabled" false $.Values.config)) (not $.Values.existingConfigMap) -}}
{{- fail "nodes.streaming.enabled needs config.streaming.enabled: the cache must index the images" -}}
{{- end -}}
{{- include "tarn.checkNoSecret" (list "nodes.streaming.config" .config) -}}
{{- end -}}
{{- if and .ca (not (hasPrefix "https://" .url)) -}}
{{- fail "nodes.ca needs nodes.url to begin with https://" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "tarn.check" -}}
{{- include "tarn.check.image" . -}}
{{- include "tarn.check.config" . -}}
{{- include "tarn.check.clients" . -}}
{{- include "tarn.check.storage" . -}}
{{- include "tarn.check.replication" . -}}
{{- include "tarn.check.service" . -}}
{{- include "tarn.check.keep" . -}}
{{- include "tarn.check.nodes" . -}}
{{- end -}}
