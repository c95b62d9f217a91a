import { useQuery } from "@tanstack/react-query";
import { useLocation, useNavigate, useParams, useSearchParams } from "react-router";
import type { Json } from "@/api/client";
import { useText } from "@/i18n";
import { Page } from "@/kit/page";
import { recordQuery, titleOf, useResource } from "@/kit/queries";
import { RecordForm } from "@/kit/record-form";
import { ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { screenOf } from "@/resources";

export function NewPage() {
  const { collection = "" } = useParams();
  const { t, plural, noun } = useText();
  const navigate = useNavigate();
  const [params] = useSearchParams();
  const resource = useResource(collection);
  // What another record gives to the new one comes along with the way here.
  const taken = useLocation().state as Json | null;
  const given = Object.fromEntries(
    [...params].filter(([name]) => resource.fields.some((field) => field.name === name)),
  );
  return (
    <Page
      title={t("form.newTitle", { what: noun(resource.label) })}
      crumbs={[{ label: plural(resource.label), path: `/${collection}` }]}
    >
      <RecordForm
        key={collection}
        resource={resource}
        initial={{ ...screenOf(collection).defaults?.(), ...given, ...taken }}
        onSaved={(record) => {
          if (record["pendingApproval"]) {
            // It is no record before the decision: what there is to see is the request.
            tell(t("approvals.submitted"), "good", { detail: t("approvals.submittedText") });
            void navigate("/approvals?tab=mine", { replace: true });
          } else void navigate(`/${record.name}`, { replace: true });
        }}
        onCancel={() => void navigate(-1)}
      />
    </Page>
  );
}

export function EditPage() {
  const { collection = "", id = "" } = useParams();
  const { t, language, plural } = useText();
  const navigate = useNavigate();
  const resource = useResource(collection);
  const name = `${collection}/${id}`;
  // What another person saves meanwhile must not slip under the fingers: the form merges when it saves.
  const record = useQuery({ ...recordQuery(name), staleTime: 0, refetchOnWindowFocus: false });
  const crumbs = [
    { label: plural(resource.label), path: `/${collection}` },
    { label: titleOf(record.data, resource, language), path: `/${name}` },
  ];
  return (
    <Page title={t("form.editTitle", { title: titleOf(record.data, resource, language) })} crumbs={crumbs}>
      {record.isError ? (
        <ErrorNote error={record.error} onRetry={() => void record.refetch()} />
      ) : record.isPending ? (
        <Skeleton lines={8} />
      ) : (
        <RecordForm
          key={name}
          resource={resource}
          record={record.data}
          onSaved={() => void navigate(`/${name}`, { replace: true })}
          onCancel={() => void navigate(`/${name}`)}
        />
      )}
    </Page>
  );
}
