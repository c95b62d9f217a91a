{{- define "crm.selector" -}}
{app.kubernetes.io/name: {{ .name }}, app.kubernetes.io/instance: {{ .root.Release.Name }}}
{{- end }}

{{- define "crm.meta" }}
metadata:
  name: {{ .root.Release.Name }}-{{ .name }}
  labels:
    app.kubernetes.io/name: {{ .name }}
    app.kubernetes.io/instance: {{ .root.Release.Name }}
    app.kubernetes.io/part-of: crm
    app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
    app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "crm.host" -}}
{{- if .root.Values.embedded.enabled }}{{ .root.Release.Name }}-{{ .embedded }}{{ else }}
{{- required (printf "%s.host: its address, or embedded.enabled=true to try the platform" .need) (index .root.Values .need).host }}
{{- end }}
{{- end }}

{{- /* The settings that all apps share: a ConfigMap for the workloads, inline in the hooks, which run before it is there. */}}
{{- define "crm.settings" -}}
{{- $files := ternary "file:///var/lib/crm/files" .Values.files.url (and .Values.embedded.enabled (not .Values.files.url)) }}
{{- $public := printf "https://%s" (required "ingress.host: the name under which people open the platform" .Values.ingress.host) }}
{{- $issuer := .Values.embedded.enabled | ternary (printf "%s/realms/guanxi" $public) .Values.oidc.issuer }}
{{- $own := dict "PUBLIC_URL" $public "PGSSLMODE" (ternary "disable" .Values.database.sslMode .Values.embedded.enabled)
  "OIDC_ISSUER" (required "oidc.issuer: the issuer's address, e.g. https://id.example.com/realms/guanxi" $issuer)
  "OIDC_DISCOVERY_URL" (ternary (printf "http://%s-keycloak:8080/realms/guanxi/.well-known/openid-configuration" .Release.Name) "" .Values.embedded.enabled)
  "GATEWAY_ISSUER_JWKS" (printf "http://%s-gateway:%v/session/jwks" .Release.Name .Values.services.gateway.port)
  "PGSSLROOTCERT" (ternary "/etc/crm/ca.crt" "/etc/ssl/certs/ca-certificates.crt" (ne .Values.authorities "")) "SSL_CERT_FILE" (ternary "/etc/crm/ca.crt" "" (ne .Values.authorities ""))
  "FILES_URL" (required "files.url: where files are kept, e.g. s3://bucket/prefix" $files) }}
{{- range $key, $value := merge $own .Values.settings }}
{{- if $value }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "crm.fromSecret" -}}
{{- $secret := required "secret: name the Secret that holds the passwords; the chart has no default passwords (docs/operations.md, Secrets)" .root.Values.secret }}
- {name: {{ .env }}, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .key | default .env }}}}}
{{- end }}

{{- /* Where Keycloak is administered: the realm is brought there, and workspace keeps people and departments in step. */}}
{{- define "crm.keycloak" }}{{ ternary (printf "http://%s-keycloak:8080" .Release.Name) .Values.oidc.realmImport.url .Values.embedded.enabled }}{{ end }}

{{- define "crm.database" -}}
{{- include "crm.fromSecret" (dict "root" .root "env" "DATABASE_PASSWORD" "key" (printf "%s_PASSWORD" (upper .role))) }}
- {name: {{ .env }}, value: "postgresql://{{ .role }}:$(DATABASE_PASSWORD)@{{ include "crm.host" (dict "root" .root "need" "database" "embedded" "postgres") }}:{{ .root.Values.database.port }}"}
{{- end }}

{{- define "crm.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
imagePullSecrets: {{ .root.Values.image.pullSecrets | toJson }}
securityContext: {runAsNonRoot: true, runAsUser: {{ .uid }}, runAsGroup: {{ .uid }}, fsGroup: {{ .uid }}, fsGroupChangePolicy: OnRootMismatch, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{- define "crm.container" -}}
{{- with .root.Values.image }}
image: {{ if $.image }}{{ $.image }}{{ else }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.root.Chart.AppVersion }}{{ end }}{{ end }}
imagePullPolicy: {{ .pullPolicy }}
{{- end }}
securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{- /* The egress rule for one word of `needs`: the embedded server, or the peers that the values declare. */}}
{{- define "crm.egress" -}}
{{- $embedded := get (dict "database" "postgres" "nats" "nats" "issuer" "keycloak") .need }}
{{- if and .root.Values.embedded.enabled $embedded }}
- to: [{podSelector: {matchLabels: {{ include "crm.selector" (dict "root" .root "name" $embedded) }}}}]
  ports: [{port: main}]
{{- else if or (not (has .need (list "files" "scanner"))) (and (eq .need "files") (hasPrefix "s3:" .root.Values.files.url)) (and (eq .need "scanner") .root.Values.settings.CLAMAV_URL) }}
{{- with index .root.Values.networkPolicy.to .need }}
- to: {{ required (printf "networkPolicy.to.%s.peers: which addresses the apps may reach for it" $.need) .peers | toJson }}
  ports: [{{ range $i, $port := .ports }}{{ if $i }}, {{ end }}{port: {{ $port }}}{{ end }}]
{{- end }}
{{- end }}
{{- end }}

{{- define "crm.volumes" }}
volumes:
  - {name: tmp, emptyDir: {sizeLimit: 2Gi}}
  {{- with .Values.authorities }}{{ printf "- {name: authorities, configMap: {name: %s}}" . | nindent 2 }}{{ end }}
  {{- with ternary (printf "%s-files" .Release.Name) .Values.files.claim .Values.embedded.enabled }}{{ printf "- {name: files, persistentVolumeClaim: {claimName: %s}}" . | nindent 2 }}{{ end }}
{{- end }}

{{- define "crm.mounts" }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  {{- with .Values.authorities }}{{ "- {name: authorities, mountPath: /etc/crm, readOnly: true}" | nindent 2 }}{{ end }}
  {{- if or .Values.files.claim .Values.embedded.enabled }}{{ "- {name: files, mountPath: /var/lib/crm/files}" | nindent 2 }}{{ end }}
{{- end }}
