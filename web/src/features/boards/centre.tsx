import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Schema } from "@/api/schema";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { FieldValue } from "@/kit/field-value";
import { encodeFilter } from "@/kit/filter";
import { gotQuery } from "@/kit/got";
import { Page } from "@/kit/page";
import { Posts } from "@/kit/posts";
import { useResource, useSession } from "@/kit/queries";
import { Empty, ErrorNote, Skeleton } from "@/kit/states";

type Centre = Schema<"workspace.ReadInformationCentreResponse">;

/** The information centre: what waits to be acknowledged, and what is new on each board. */
export function CentrePage() {
  const { t } = useText();
  const session = useSession();
  const resource = useResource("posts");
  const board = resource.fields.find((field) => field.name === "board");
  const centre = useQuery(gotQuery<Centre>(["list", "posts", "centre"], "/v1/posts:centre"));
  const waiting = centre.data?.toAcknowledge ?? [];
  const boards = centre.data?.boards ?? [];
  return (
    <Page
      title={t("page.centre")}
      actions={
        may(session, resource.permissions.create) && (
          <Link className="button primary" to="/posts/new">
            {t("boards.write")}
          </Link>
        )
      }
    >
      {centre.isError ? (
        <ErrorNote error={centre.error} onRetry={() => void centre.refetch()} />
      ) : centre.isPending ? (
        <Skeleton lines={8} />
      ) : (
        <div className="stack">
          {waiting.length > 0 && <Posts title={t("boards.toAcknowledge")} posts={waiting} />}
          {boards.length === 0 && <Empty title={t("boards.none")} text={t("boards.noneText")} />}
          <div className="centre">
            {boards.map((one) => (
              <Posts
                key={one.board}
                title={board ? <FieldValue field={board} value={one.board} /> : one.board}
                posts={one.posts ?? []}
                all={`/posts?filter=${encodeURIComponent(encodeFilter({ groups: [[{ field: "board", operator: "is", value: one.board ?? "" }]] }))}`}
              />
            ))}
          </div>
        </div>
      )}
    </Page>
  );
}
