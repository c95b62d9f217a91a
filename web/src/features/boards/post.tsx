import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { act, type Json, type RecordJson } from "@/api/client";
import type { Schema } from "@/api/schema";
import { useText } from "@/i18n";
import { formatInstant } from "@/kit/dates";
import { Reference } from "@/kit/field-value";
import { GenericRecord } from "@/kit/generic-record";
import { gotQuery } from "@/kit/got";
import { useResource, useSession } from "@/kit/queries";
import { ErrorNote, Skeleton } from "@/kit/states";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import { Comments } from "@/kit/comments";

type Question = Schema<"workspace.Post.QuizQuestion">;
type Standing = Schema<"workspace.ListPostReadersResponse">;

const standingQuery = (name: string, missing = false) =>
  gotQuery<Standing>(
    ["record", name, "readers", missing],
    `/v1/${name}:readers?pageSize=200${missing ? "&missing=true" : ""}`,
  );

/** A post: its text, what is said about it, and who has acknowledged it. */
export function PostPage({ name }: { name: string }) {
  const { t } = useText();
  const session = useSession();
  const resource = useResource("posts");
  return (
    <GenericRecord
      resource={resource}
      name={name}
      banner={(post) => <Text post={post} />}
      comments={(post) => <Answers post={post} />}
      more={(post) =>
        (post["kind"] === "ANNOUNCEMENT" || Boolean(post["ackRequired"])) &&
        (post["owner"] === session.employee || session.permissions.includes("workspace.posts.moderate"))
          ? [{ key: "readers", label: t("boards.readers"), content: <Readers name={post.name} /> }]
          : []
      }
    />
  );
}

function Text({ post }: { post: RecordJson }) {
  const { t, language } = useText();
  const published = post["state"] === "PUBLISHED";
  const standing = useQuery({ ...standingQuery(post.name), enabled: post["state"] !== "DRAFT" });
  const quiz = (post["quiz"] as Question[] | undefined) ?? [];
  const [answers, setAnswers] = useState<Record<number, string>>({});
  const run = async (verb: string, body: Json = {}) => {
    try {
      await act(post.name, verb, body);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  const read = standing.data?.myAcknowledgeTime;
  return (
    <section className="card">
      <div className="card-body stack">
        <p className="comment-body">{String(post["body"] ?? "")}</p>
        {published && !read && quiz.length > 0 && (
          <section className="stack" aria-label={t("boards.quiz")}>
            <p className="faint">{t("boards.quizText")}</p>
            {quiz.map(({ text, choices = [] }, index) => (
              <fieldset key={index} className="stack-tight">
                <legend>{text}</legend>
                {choices.map((choice) => (
                  <label key={choice} className="choice-line">
                    <input
                      type="radio"
                      name={`${post.name}-${index}`}
                      checked={answers[index] === choice}
                      onChange={() => setAnswers((before) => ({ ...before, [index]: choice }))}
                    />{" "}
                    {choice}
                  </label>
                ))}
              </fieldset>
            ))}
          </section>
        )}
        {published && (
          <p>
            {(Boolean(post["ackRequired"]) || quiz.length > 0) &&
              (read ? (
                <span className="tag tag-good">
                  {t("boards.acknowledged", { time: formatInstant(read, language) })}
                </span>
              ) : (
                <button
                  type="button"
                  className="button primary"
                  disabled={Object.keys(answers).length < quiz.length}
                  onClick={() =>
                    void run("acknowledge", { answers: quiz.map((_, index) => answers[index] ?? "") })
                  }
                >
                  {t("boards.acknowledge")}
                </button>
              ))}{" "}
            <button
              type="button"
              className="button"
              aria-pressed={standing.data?.liked ?? false}
              onClick={() => void run("react")}
            >
              {t("boards.likes", { count: standing.data?.likes ?? 0 })}
            </button>
          </p>
        )}
      </div>
    </section>
  );
}

function Answers({ post }: { post: RecordJson }) {
  const { t } = useText();
  const session = useSession();
  const asks = post["kind"] === "QUESTION" && post["state"] === "PUBLISHED";
  const accept = async (comment: RecordJson) => {
    try {
      await act(post.name, "acceptAnswer", { comment: comment.name }, post.etag);
    } catch (error) {
      tell(messageOf(error), "bad");
    }
  };
  return (
    <Comments
      name={post.name}
      closed={post["state"] !== "PUBLISHED"}
      more={(comment) =>
        comment.name === post["acceptedAnswer"] ? (
          <span className="tag tag-good">{t("boards.accepted")}</span>
        ) : asks && post["owner"] === session.employee ? (
          <button type="button" className="link" onClick={() => void accept(comment)}>
            {t("boards.accept")}
          </button>
        ) : null
      }
    />
  );
}

/** Who has not acknowledged, and how many have. */
function Readers({ name }: { name: string }) {
  const { t } = useText();
  const missing = useQuery(standingQuery(name, true));
  if (missing.isError) return <ErrorNote error={missing.error} onRetry={() => void missing.refetch()} />;
  if (missing.isPending) return <Skeleton />;
  const { readers = [], total = 0, acknowledged = 0 } = missing.data;
  return (
    <section className="card">
      <div className="card-body stack">
        <p role="status">{t("boards.standing", { acknowledged, total })}</p>
        <ul className="people">
          {readers.map((reader) => (
            <li key={reader.employee}>
              <Reference name={reader.employee ?? ""} />{" "}
              <span className="faint">
                <Reference name={reader.department ?? ""} link={false} />
              </span>
            </li>
          ))}
        </ul>
        {readers.length < total - acknowledged && (
          <p className="faint">{t("boards.andMore", { count: total - acknowledged - readers.length })}</p>
        )}
      </div>
    </section>
  );
}
