{{- define "crm.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/part-of: crm
{{- end }}

{{- define "crm.meta" -}}
name: {{ .root.Release.Name }}-{{ .name }}
labels:
  {{- include "crm.labels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .root.Release.Service }}
  helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "crm.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "crm.secret" -}}
{{- required "secret: name the Secret that holds the passwords; the chart has no default passwords (docs/operations.md, Secrets)" .Values.secret }}
{{- end }}

{{- define "crm.host.database" -}}
{{- if .Values.embedded.enabled }}{{ .Release.Name }}-postgres{{ else }}{{ required "database.host: the address of PostgreSQL, or embedded.enabled=true to try the platform" .Values.database.host }}{{ end }}
{{- end }}

{{- define "crm.host.nats" -}}
{{- if .Values.embedded.enabled }}{{ .Release.Name }}-nats{{ else }}{{ required "nats.host: the address of NATS, or embedded.enabled=true to try the platform" .Values.nats.host }}{{ end }}
{{- end }}

{{- define "crm.issuer" -}}
{{- required "oidc.issuer: the issuer's address as people and pods reach it, e.g. https://id.example.com/realms/crm" .Values.oidc.issuer }}
{{- end }}

{{- define "crm.files.claim" -}}
{{- if .Values.files.claim }}{{ .Values.files.claim }}{{ else if .Values.embedded.enabled }}{{ .Release.Name }}-files{{ end }}
{{- end }}

{{- /* The settings that all apps share; a ConfigMap for the workloads, inline in the hooks, which run before it. */}}
{{- define "crm.settings" -}}
{{- $files := ternary "file:///var/lib/crm/files" .Values.files.url (and .Values.embedded.enabled (not .Values.files.url)) }}
{{- $settings := dict "OIDC_ISSUER" (include "crm.issuer" .) "PGSSLMODE" (ternary "disable" .Values.database.sslMode .Values.embedded.enabled) }}
{{- $_ := set $settings "FILES_URL" (required "files.url: where files are kept, e.g. s3://bucket/prefix" $files) }}
{{- range $key, $value := merge $settings .Values.settings }}
{{- with $value }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "crm.fromSecret" -}}
- name: {{ .env }}
  valueFrom: {secretKeyRef: {name: {{ include "crm.secret" .root }}, key: {{ .key }}}}
{{- end }}

{{- define "crm.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  fsGroup: {{ . }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "crm.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "crm.own" -}}
image: {{ include "crm.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{ include "crm.containerSecurity" . }}
{{- end }}

{{- /* The egress rule for one word of `needs`: the embedded server, or the peers that the values declare. */}}
{{- define "crm.egress" -}}
{{- $embedded := dict "database" "postgres" "nats" "nats" "issuer" "keycloak" }}
{{- $to := index .root.Values.networkPolicy.to .need }}
{{- if and .root.Values.embedded.enabled (hasKey $embedded .need) }}
- to: [{podSelector: {matchLabels: {app.kubernetes.io/instance: {{ .root.Release.Name }}, app.kubernetes.io/name: {{ index $embedded .need }}}}}]
  ports: [{port: {{ index (dict "database" 5432 "nats" 4222 "issuer" 8080) .need }}}]
{{- else if and (eq .need "files") (include "crm.files.claim" .root) }}
{{- else }}
- to: {{ required (printf "networkPolicy.to.%s.peers: which addresses the apps may reach for it" .need) $to.peers | toJson }}
  ports: [{{ range $i, $port := $to.ports }}{{ if $i }}, {{ end }}{port: {{ $port }}}{{ end }}]
{{- end }}
{{- end }}

{{- define "crm.addresses" -}}
{{- $pairs := list }}
{{- range $name, $service := omit .Values.services "gateway" }}
{{- $pairs = append $pairs (printf "%s=%s-%s:%v" $name $.Release.Name $name $service.port) }}
{{- end }}
{{- join "," $pairs }}
{{- end }}

{{- /* Liveness asks the event loop only; readiness asks whether the app can serve. */}}
{{- define "crm.probe" -}}
{{- $live := eq .kind "livenessProbe" }}
{{- if .gateway }}httpGet: {port: main, path: {{ ternary "/health/live" "/health/ready" $live }}}{{ else }}httpGet: {port: metrics, path: {{ ternary "/livez" "/readyz" $live }}}{{ end }}
{{- end }}

{{- /* A Job up to its containers. */}}
{{- define "crm.job" }}
apiVersion: batch/v1
kind: Job
metadata:
  {{- include "crm.meta" (dict "root" .root "name" (print .name .suffix)) | nindent 2 }}
  {{- if not .suffix }}
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- end }}
spec:
  backoffLimit: 6
  activeDeadlineSeconds: 1800
  ttlSecondsAfterFinished: 86400
  template:
    metadata:
      labels:
        {{- include "crm.labels" . | nindent 8 }}
        crm/job: "true"
    spec:
      {{- include "crm.podSecurity" 10001 | nindent 6 }}
      restartPolicy: OnFailure
      imagePullSecrets: {{ .root.Values.image.pullSecrets | toJson }}
      volumes: [{name: tmp, emptyDir: {}}]
{{- end }}

{{- /* environment: key of the Secret, for one embedded server. */}}
{{- define "crm.embeddedSecrets" -}}
{{- if eq .server "postgres" }}
POSTGRES_PASSWORD: postgres-password
keycloak_password: keycloak-password
{{- range .databases }}
{{ . }}_password: {{ . }}-password
{{ . }}_owner_password: {{ . }}-owner-password
{{- end }}
{{- else if eq .server "keycloak" }}
KC_DB_PASSWORD: keycloak-password
KC_BOOTSTRAP_ADMIN_USERNAME: keycloak-admin
KC_BOOTSTRAP_ADMIN_PASSWORD: keycloak-admin-password
{{- else }}
{{- range $name, $service := .services }}
{{ $name | upper }}_NATS_PASSWORD: {{ $name }}-nats-password
{{- end }}
{{- end }}
{{- end }}

{{- /* What one app may send to NATS: its own facts, JetStream without the means to destroy a stream of another. */}}
{{- define "crm.natsPublish" -}}
["crm.{{ . }}.v1.>", "$JS.ACK.>", "$JS.FC.>", "$JS.API.INFO", "$JS.API.ACCOUNT.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.INFO.>", "$JS.API.STREAM.CREATE.crm-{{ . }}", "$JS.API.STREAM.UPDATE.crm-{{ . }}", "$JS.API.STREAM.CREATE.KV_crm-config", "$JS.API.STREAM.MSG.GET.>", "$JS.API.DIRECT.GET.>", "$JS.API.CONSUMER.>"{{ if eq . "workspace" }}, "$KV.crm-config.>"{{ end }}]
{{- end }}
